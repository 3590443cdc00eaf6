// A selection: montage, counts, properties against the rest, gates, downloads, decisions.

import { useEffect, useState } from "preact/hooks";
import { post } from "../data/source";
import { members } from "../data/shapes";
import { pageOf } from "../data/order";
import { finish, STRIDE } from "../data/pacing";
import { countCategories, effect, formatCount, formatNumber, type Effect } from "../data/statistics";
import type { CategoryColumn, NumberColumn } from "../data/manifest";
import { seen } from "../view/colouring";
import type { Explorer } from "../view/explorer";
import { CropButton } from "./cell";
import { Bars, Section, usePaced } from "./parts";
import { downloadColumn, downloadCsv, downloadDecisions, downloadFigure, downloadMontage } from "./downloads";
import { Plot } from "./plot";
import { Question } from "./ask";

const MONTAGE = 60;
const MOST_ORDERED = 100_000; // cells that the server orders by features; more are ordered on the map
type Order = "typical" | "distant" | "colour" | "file";

const MANY = 20_000; // cells from which on the maps are drawn before the panel counts

/** Whether the panel may count: at once for few cells, else when the maps are drawn. */
function useSettled(explorer: Explorer): boolean {
  const [settled, setSettled] = useState<Uint8Array | null>(null);
  const { mask } = explorer;
  useEffect(() => {
    const timer = setTimeout(() => setSettled(mask), 200);
    return () => clearTimeout(timer);
  }, [mask]);
  return mask.length <= MANY || settled === mask;
}

export function SelectionPanel({ explorer }: { explorer: Explorer }) {
  const settled = useSettled(explorer);
  if (!explorer.selected) {
    return (
      <div key="hint" class="hint">
        <p>Nothing is selected. Ways to select:</p>
        <ul>
          <li>press <kbd>L</kbd> (lasso) or <kbd>R</kbd> (rectangle) and drag on a map;</li>
          <li>shift-click an entry of the legend: a class, a cluster, a donor;</li>
          <li>choose a property under “Colour by” and select a range of it;</li>
          <li>draw a gate in two properties, below.</li>
        </ul>
        <p>With <kbd>shift</kbd> cells are added, with <kbd>alt</kbd> taken away, with both only the common ones stay.</p>
        <Section title="Gate in two properties" open={false}><Plot explorer={explorer} /></Section>
      </div>
    );
  }
  return (
    <div key="selection" class="selection">
      <h2>{formatCount(explorer.selected)} of {formatCount(explorer.shown)} cells selected</h2>
      <div class="row">
        <button onClick={() => explorer.invert()}>Invert</button>
        <button onClick={() => explorer.clear()}>Clear (Esc)</button>
      </div>
      {settled ? <Montage explorer={explorer} /> : <p class="quiet">counting …</p>}
      <SaveGate explorer={explorer} />
      <Section title="Ask the network"><Question explorer={explorer} /></Section>
      <Section title="What they are">
        {settled && <Counts explorer={explorer} />}
      </Section>
      <Section title="What tells them from the rest">
        {settled && <Differences explorer={explorer} />}
      </Section>
      <Section title="Gate in two properties" open={false}>{settled && <Plot explorer={explorer} />}</Section>
      <Section title="Relabel or set aside" open={false}>
        <Decide explorer={explorer} />
      </Section>
      <Section title="Download" open={false}>
        <div class="row wrap">
          <button onClick={() => void downloadCsv(explorer)}>Table (CSV)</button>
          <button onClick={() => void downloadColumn(explorer)} title="a column for adata.obs: True where a cell is selected, by its name">AnnData column</button>
          <button onClick={() => void downloadMontage(explorer, finish(ordered(explorer, "typical", 0, 400)))}>Montage (PNG)</button>
          <button onClick={() => void downloadFigure(explorer)}>Maps (PNG)</button>
        </div>
      </Section>
    </div>
  );
}

/** What the selected cells are ordered by, the lowest first; distances are on the map of the depth. */
function* keysOf(explorer: Explorer, order: Order): Generator<void, Float32Array> {
  const { mask, hidden, manifest, view } = explorer;
  const { n } = manifest;
  const keys = new Float32Array(n);
  const values = order === "colour" ? explorer.values(view.colour) : undefined;
  const layers = manifest.maps[view.method] ?? {};
  const layer = view.layer in layers ? view.layer : view.layers[0];
  const bytes = order === "typical" || order === "distant" ? explorer.arrays.ready(layers[layer]?.array ?? "") : undefined;
  if (!bytes) {
    for (let i = 0; i < n; i++) keys[i] = values ? -values[i] : i;
    return keys;
  }
  const all = new Uint16Array(bytes.buffer);
  const about = order === "typical" ? 1 : 0; // the selected cells, or the others
  let x = 0;
  let y = 0;
  let sum = 0;
  for (let start = 0; start < n; start += STRIDE) {
    for (let i = start; i < Math.min(n, start + STRIDE); i++) {
      if (mask[i] !== about || hidden[i]) continue;
      x += all[i];
      y += all[n + i];
      sum++;
    }
    yield;
  }
  const sign = order === "typical" ? 1 : -1;
  for (let start = 0; start < n; start += STRIDE) {
    for (let i = start; i < Math.min(n, start + STRIDE); i++) {
      keys[i] = sign * Math.hypot(all[i] - x / (sum || 1), all[n + i] - y / (sum || 1));
    }
    yield;
  }
  return keys;
}

function* ordered(explorer: Explorer, order: Order, from: number, to: number): Generator<void, number[]> {
  return yield* pageOf(explorer.mask, yield* keysOf(explorer, order), from, to);
}

function Montage({ explorer }: { explorer: Explorer }) {
  const [order, setOrder] = useState<Order>("typical");
  const [page, setPage] = useState(0);
  const map = explorer.manifest.maps[explorer.view.method]?.[explorer.view.layer]?.array ?? "";
  const ready = explorer.arrays.ready(map) !== undefined;
  if (map && !ready) void explorer.arrays.bytes(map).then(() => explorer.tell(), () => undefined);
  const [served, setServed] = useState<{ key: unknown[]; cells: number[] } | null>(null);
  const wanted = [explorer.mask, order, explorer.view.layer];
  const live = explorer.manifest.live && explorer.selected <= MOST_ORDERED && (order === "typical" || order === "distant");
  useEffect(() => {
    if (!live || explorer.busy) return;
    let here = true;
    const asked = { cells: members(explorer.mask), layer: explorer.view.layer, by: order };
    post("order", asked).then(async (answer) => {
      const { cells: found } = (await answer.json()) as { cells: number[] };
      if (here) setServed({ key: wanted, cells: found });
    }, () => undefined);
    return () => {
      here = false;
    };
  }, [...wanted, live]);
  const inFeatures = live && served?.key.every((part, i) => part === wanted[i]);
  const pages = Math.ceil(explorer.selected / MONTAGE);
  const at = Math.max(0, Math.min(page, pages - 1));
  const [from, to] = [at * MONTAGE, (at + 1) * MONTAGE];
  const onMap = usePaced(() => ordered(explorer, order, from, to), [explorer.mask, order, at, explorer.view.layer, explorer.view.method, explorer.view.colour, ready]);
  const cells = inFeatures && served ? served.cells.slice(from, to) : (onMap ?? []);
  return (
    <div class="montage">
      <label class="inline">
        Crops,{" "}
        <select value={order} onChange={(event) => { setOrder(event.currentTarget.value as Order); setPage(0); }}>
          <option value="typical">the most typical first</option>
          <option value="distant">farthest from the rest first</option>
          <option value="colour">highest {explorer.column(explorer.view.colour)?.title ?? "colour"} first</option>
          <option value="file">in the order of the data</option>
        </select>
      </label>
      {(order === "typical" || order === "distant") && <p class="quiet">By distance {inFeatures ? "in the features" : "on the map"} of {explorer.view.layer}, from the middle of {order === "typical" ? "the selection" : "the rest"}.</p>}
      <div class="crops tight">
        {cells.map((cell) => <CropButton key={cell} explorer={explorer} cell={cell} side={40} />)}
      </div>
      {pages > 1 && (
        <p class="pages">
          <button disabled={at === 0} onClick={() => setPage(at - 1)} aria-label="earlier crops">‹</button>{" "}
          {formatCount(from + 1)}–{formatCount(Math.min(explorer.selected, to))} of {formatCount(explorer.selected)}{" "}
          <button disabled={at >= pages - 1} onClick={() => setPage(at + 1)} aria-label="later crops">›</button>
        </p>
      )}
    </div>
  );
}

function SaveGate({ explorer }: { explorer: Explorer }) {
  const [name, setName] = useState("");
  const save = (event: Event) => {
    event.preventDefault();
    if (name.trim()) void explorer.kept.save(name.trim().slice(0, 80)).then(() => setName(""));
  };
  return (
    <form class="row save" onSubmit={save}>
      <input aria-label="name of the gate" placeholder="Name these cells …" maxLength={80} value={name} onInput={(event) => setName(event.currentTarget.value)} />
      <button type="submit" disabled={!name.trim()}>Save gate</button>
    </form>
  );
}

function Counts({ explorer }: { explorer: Explorer }) {
  const columns = explorer.manifest.columns.filter(
    (column): column is CategoryColumn => column.kind === "category" && ["class", "prediction", "error", "group"].includes(column.role),
  );
  const coloured = explorer.column(explorer.view.colour);
  if (coloured?.kind === "category" && !columns.includes(coloured)) columns.push(coloured);
  const ready = columns.map((column) => explorer.values(column.key));
  const counts = usePaced(function* () {
    const found: { inside: Uint32Array; all: Uint32Array }[] = [];
    for (const values of ready) found.push(yield* countCategories(values ?? [], explorer.mask, explorer.hidden));
    return found;
  }, [explorer.mask, explorer.hidden, columns.map((column) => column.key).join(), ready.filter(Boolean).length]);
  return (
    <>
      {columns.map((column, index) => {
        if (!counts?.[index] || !ready[index]) return null;
        const { inside, all } = counts[index];
        const entries = column.categories
          .map((name, code) => ({ name, code, colour: seen(column.colours[code], explorer.theme), value: inside[code], of: all[code] }))
          .filter((entry) => entry.of)
          .sort((a, b) => b.value - a.value);
        return (
          <div key={column.key}>
            <h3>{column.title}</h3>
            <Bars
              entries={entries.slice(0, 12)} total={explorer.selected} all={explorer.shown}
              onPick={(place) => explorer.select({ kind: "category", column: column.key, codes: [entries[place].code] }, "intersect")}
            />
            {entries.length > 12 && <p class="quiet">and {entries.length - 12} more</p>}
          </div>
        );
      })}
      <p class="quiet">Bars: share of the selection. Mark: share of all cells shown. Click a bar to keep only those cells.</p>
    </>
  );
}

function Differences({ explorer }: { explorer: Explorer }) {
  const columns = explorer.manifest.columns.filter(
    (column): column is NumberColumn => column.kind === "number" && ["property", "covariate", "confidence"].includes(column.role),
  );
  const ready = columns.map((column) => explorer.values(column.key));
  const known = ready.filter(Boolean).length;
  const rows = usePaced(function* () {
    const found: ({ column: NumberColumn } & Effect)[] = [];
    for (const [i, column] of columns.entries()) {
      const values = ready[i];
      const measured = values && (yield* effect(values, explorer.mask, column.limits));
      if (measured) found.push({ column, ...measured });
    }
    return found.sort((a, b) => Math.abs(b.auc - 0.5) - Math.abs(a.auc - 0.5));
  }, [explorer.mask, known]);
  if (!rows?.length) return <p class="quiet">{rows && known ? "There is no property to compare." : "reading …"}</p>;
  return (
    <>
      <table class="effects">
        <thead><tr><th scope="col">property</th><th scope="col">AUC</th><th scope="col" aria-label="interval" /><th scope="col">here</th><th scope="col">rest</th></tr></thead>
        <tbody>
          {rows.slice(0, 10).map((row) => (
            <tr key={row.column.key}>
              <th scope="row"><button class="plain" title={`colour the maps by ${row.column.title}`} onClick={() => explorer.set({ colour: row.column.key, range: null })}>{row.column.title}</button></th>
              <td>{row.auc.toFixed(2)}</td>
              <td>
                <svg viewBox="0 0 60 12" width="60" height="12" role="img" aria-label={`95 % interval ${row.low.toFixed(2)} to ${row.high.toFixed(2)}`}>
                  <line class="zero" x1="30" x2="30" y1="0" y2="12" />
                  <line class="interval" x1={60 * row.low} x2={60 * row.high} y1="6" y2="6" />
                  <circle class="value" cx={60 * row.auc} cy="6" r="3" />
                </svg>
              </td>
              <td>{formatNumber(row.inside)}</td>
              <td>{formatNumber(row.outside)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="quiet">
        AUC: chance that a selected cell has more than another one; .5 is no difference. Line: 95 % interval,
        cells taken as independent. Here and rest: medians. You chose the cells, so a difference is no proof.
      </p>
    </>
  );
}

function Decide({ explorer }: { explorer: Explorer }) {
  const { classes } = explorer.manifest;
  const [label, setLabel] = useState(classes[0] ?? "");
  const cells = () => members(explorer.mask);
  const many = explorer.kept.decisions.size;
  return (
    <>
      <div class="row wrap">
        <select aria-label="new class" value={label} onChange={(event) => setLabel(event.currentTarget.value)}>
          {classes.map((name) => <option key={name}>{name}</option>)}
        </select>
        <button onClick={() => void explorer.kept.decide(cells(), label)}>Relabel</button>
        <button onClick={() => void explorer.kept.decide(cells(), null)}>Set aside</button>
        <button onClick={() => void explorer.kept.decide(cells(), undefined)}>Take back</button>
      </div>
      <p class="quiet">
        {explorer.manifest.live
          ? "Decisions go into suspects.csv of the run. Nothing changes until you hand it back: cytolens run RUN --relabel RUN/suspects.csv"
          : "This file cannot write into the run; download the decisions and hand them to: cytolens run RUN --relabel FILE"}
        {many > 0 && ` ${formatCount(many)} decided so far.`}
      </p>
      {!explorer.manifest.live && many > 0 && <button onClick={() => void downloadDecisions(explorer)}>Decisions (CSV)</button>}
    </>
  );
}
