// The left side: what the colours mean, and what is left out.

import { useMemo } from "preact/hooks";
import type { CategoryColumn, Column, NumberColumn } from "../data/manifest";
import { formatCount, formatNumber, histogram } from "../data/statistics";
import type { Explorer } from "../view/explorer";
import { rampColour, seen, type Filter } from "../view/colouring";
import { howOf } from "./map";
import { RangeSlider } from "./parts";

const ROLES: [string, string][] = [
  ["class", "Class and prediction"], ["prediction", ""], ["confidence", "Confidence and error"], ["error", ""],
  ["doubt", "Doubt"], ["cluster", "Clusters, by depth"], ["group", "Groups"], ["part", ""],
  ["property", "Properties"], ["covariate", "Covariates"],
];

/** Columns under headings, for a list to choose from. */
export function columnGroups(columns: Column[], only?: "number" | "category"): [string, Column[]][] {
  const groups: [string, Column[]][] = [];
  for (const [role, title] of ROLES) {
    const found = columns.filter((column) => column.role === role && (!only || column.kind === only));
    if (!found.length) continue;
    const last = groups.at(-1);
    if (title === "" && last) last[1].push(...found);
    else groups.push([title || "More", found]);
  }
  return groups;
}

export function ColumnOptions(props: { columns: Column[]; only?: "number" | "category" }) {
  return (
    <>
      {columnGroups(props.columns, props.only).map(([title, columns]) => (
        <optgroup key={title} label={title}>
          {columns.map((column) => <option key={column.key} value={column.key}>{column.title}</option>)}
        </optgroup>
      ))}
    </>
  );
}

export function Legend({ explorer }: { explorer: Explorer }) {
  const { view, manifest } = explorer;
  const column = explorer.column(view.colour);
  const activation = view.colour.startsWith("activation/");
  return (
    <aside class="legend" aria-label="colours and filters">
      <label class="field">
        <span>Colour by</span>
        <select
          id="colour" value={view.colour}
          onChange={(event) => explorer.set({ colour: event.currentTarget.value, range: null })}
        >
          {activation && <option value={view.colour}>{view.colour.replace("activation/", "").replace("/", ", channel ")}</option>}
          <ColumnOptions columns={manifest.columns} />
        </select>
      </label>
      <ChannelChooser explorer={explorer} />
      {column?.kind === "category" && <Categories explorer={explorer} column={column} />}
      {column?.kind === "number" && <Numbers explorer={explorer} column={column} />}
      <Filters explorer={explorer} />
      <Gates explorer={explorer} />
    </aside>
  );
}

function ChannelChooser({ explorer }: { explorer: Explorer }) {
  const { view, manifest } = explorer;
  const held = manifest.layers.filter((layer) => layer.channels > 0);
  if (!held.length) return null;
  const [, layer, channel] = view.colour.startsWith("activation/") ? view.colour.split("/") : ["", "", ""];
  const chosen = held.find((entry) => entry.name === layer) ?? held.find((entry) => entry.name === view.layer) ?? held.at(-1);
  if (!chosen) return null;
  const numbers = Array.from({ length: chosen.channels }, (_, i) => i).filter((i) => explorer.arrays.source.has(`activation/${chosen.name}/${i}`));
  const go = (name: string, index: number) => explorer.set({ colour: `activation/${name}/${index}`, range: null });
  return (
    <div class="field pair">
      <span>or by a channel</span>
      <select
        aria-label="layer of the channel" value={chosen.name}
        onChange={(event) => {
          const name = event.currentTarget.value;
          const width = manifest.layers.find((entry) => entry.name === name)?.channels ?? 0;
          const first = Array.from({ length: width }, (_, i) => i).find((i) => explorer.arrays.source.has(`activation/${name}/${i}`));
          if (first !== undefined) go(name, first);
          else explorer.say("This file holds no activations of that layer; open the run with: cytolens explore RUN");
        }}
      >
        {held.map((entry) => <option key={entry.name} value={entry.name}>{entry.name}</option>)}
      </select>
      <select
        aria-label="channel" value={layer === chosen.name ? channel : ""}
        onChange={(event) => event.currentTarget.value !== "" && go(chosen.name, Number(event.currentTarget.value))}
      >
        <option value="">–</option>
        {numbers.map((i) => <option key={i} value={String(i)}>{i}</option>)}
      </select>
    </div>
  );
}

function Categories({ explorer, column }: { explorer: Explorer; column: CategoryColumn }) {
  const values = explorer.values(column.key);
  const filter = explorer.view.filters.find((entry) => entry.column === column.key && entry.kind === "categories");
  const off = filter?.kind === "categories" ? filter.off : [];
  const totals = useMemo(() => {
    const counts = new Uint32Array(256);
    if (values) for (let i = 0; i < values.length; i++) counts[values[i]]++;
    return counts;
  }, [values]);
  const others = explorer.view.filters.filter((entry) => entry !== filter);
  const put = (next: number[]) =>
    explorer.set({ filters: next.length ? [...others, { kind: "categories", column: column.key, off: next }] : others });
  const all = column.categories.map((_, code) => code);
  return (
    <div class="categories">
      <p class="quiet">Click hides or shows, double-click shows only this one, shift-click or “select” selects.</p>
      <ul>
        {column.categories.map((name, code) => {
          const hidden = off.includes(code);
          return (
            <li key={name}>
              <button
                class={hidden ? "entry off" : "entry"} aria-pressed={!hidden} title={hidden ? `show ${name}` : `hide ${name}`}
                onClick={(event) => {
                  if (event.shiftKey) explorer.select({ kind: "category", column: column.key, codes: [code] }, event.altKey ? "subtract" : explorer.selected ? "add" : "replace");
                  else if (event.detail < 2) put(hidden ? off.filter((other) => other !== code) : [...off, code]);
                }}
                onDblClick={() => put(all.filter((other) => other !== code))}
              >
                <span class="swatch" style={{ background: seen(column.colours[code], explorer.theme) }} />
                <span class="name">{name}</span>
                <span class="number">{formatCount(totals[code])}</span>
              </button>
              <button
                class="plain pick" aria-label={`select ${name}`} title={`select the cells of ${name}`}
                onClick={(event) => explorer.select({ kind: "category", column: column.key, codes: [code] }, howOf(event, explorer.view.how))}
              >
                select
              </button>
            </li>
          );
        })}
      </ul>
      {off.length > 0 && <button class="plain" onClick={() => put([])}>show all</button>}
    </div>
  );
}

function Numbers({ explorer, column }: { explorer: Explorer; column: NumberColumn }) {
  const values = explorer.values(column.key);
  const range = explorer.view.range ?? column.limits;
  const counts = useMemo(
    () => (values ? histogram(values, column.limits[0], column.limits[1], 40) : new Uint32Array(40)),
    [values?.buffer, column],
  );
  if (!values) return <p class="quiet">reading …</p>;
  const known = counts.reduce((sum, value) => sum + value, 0);
  const set = (next: [number, number]) => {
    const whole = next[0] <= column.limits[0] && next[1] >= column.limits[1];
    explorer.set({ range: whole ? null : next }, false);
  };
  const filter: Filter = { kind: "range", column: column.key, low: range[0], high: range[1] };
  return (
    <div class="numbers">
      <RangeSlider
        label={column.title} limits={column.limits} range={range} counts={counts} format={formatNumber}
        tint={(t) => `rgb(${rampColour(t).join(" ")})`} onChange={set}
      />
      <p class="quiet">
        Cells by {column.title}; the handles set the range of the colours.
        {known < explorer.manifest.n && ` ${formatCount(explorer.manifest.n - known)} cells have no value (grey).`}
      </p>
      <div class="row">
        <button onClick={() => explorer.select({ kind: "range", column: column.key, low: range[0], high: range[1] })}>Select this range</button>
        {!column.key.startsWith("activation/") && (
          <button onClick={() => explorer.set({ filters: [...explorer.view.filters.filter((entry) => entry.column !== column.key), filter] })}>Show only it</button>
        )}
      </div>
    </div>
  );
}

function Filters({ explorer }: { explorer: Explorer }) {
  const { filters } = explorer.view;
  if (!filters.length) return null;
  return (
    <div class="filters">
      <h3>Shown: {formatCount(explorer.shown)} of {formatCount(explorer.manifest.n)}</h3>
      <ul>
        {filters.map((filter, index) => {
          const column = explorer.column(filter.column);
          const text =
            filter.kind === "range"
              ? `${column?.title ?? filter.column} from ${formatNumber(filter.low)} to ${formatNumber(filter.high)}`
              : `${column?.title ?? filter.column} without ${filter.off.map((code) => (column?.kind === "category" ? column.categories[code] : code)).join(", ")}`;
          return (
            <li key={index}>
              <span>{text}</span>
              <button class="plain" aria-label={`remove the filter: ${text}`} onClick={() => explorer.set({ filters: filters.filter((_, i) => i !== index) })}>✕</button>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function Gates({ explorer }: { explorer: Explorer }) {
  const gates = explorer.kept.gates;
  if (!gates.length) return null;
  return (
    <div class="gates">
      <h3>Gates</h3>
      <ul>
        {gates.map((gate) => (
          <li key={gate.name}>
            <button
              class="entry" title="Click selects its cells; shift adds, alt takes away, both intersect"
              onClick={(event) => explorer.kept.apply(gate, event.shiftKey && event.altKey ? "intersect" : event.shiftKey ? "add" : event.altKey ? "subtract" : "replace")}
            >
              <span class="name">{gate.name}</span>
              <span class="number">{formatCount(gate.cells)}</span>
            </button>
            <button class="plain" aria-label={`forget the gate ${gate.name}`} onClick={() => void explorer.kept.forget(gate.name)}>✕</button>
          </li>
        ))}
      </ul>
    </div>
  );
}

