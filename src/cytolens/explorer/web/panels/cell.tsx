// One cell: its crop, its numbers, its path through the maps, its neighbours, its channels.

import { useEffect, useState } from "preact/hooks";
import type { Explorer } from "../view/explorer";
import { formatNumber } from "../data/statistics";
import { SHEETS } from "../data/sheets";
import { seen } from "../view/colouring";
import { STEPS } from "../raster/camera";
import { Crop, Section } from "./parts";
import { FullCrop, ServedCrop } from "./crops";
import { Deciding } from "./deciding";

export function CellPanel({ explorer }: { explorer: Explorer }) {
  const { view, manifest } = explorer;
  const { cell } = view;
  if (cell < 0) {
    return (
      <div class="hint">
        <p><b>Point at a dot</b> to see its cell. <b>Click</b> it to keep it here.</p>
        <p>Zoom in with the wheel: dots turn into crops.</p>
        <p>Press <kbd>L</kbd> and draw a line around some cells to ask what they have in common.</p>
      </div>
    );
  }
  const facts = (key: string) => {
    const column = manifest.columns.find((entry) => entry.key === key);
    const values = column && explorer.values(key);
    if (!column || !values) return undefined;
    return column.kind === "category" ? column.categories[values[cell]] : formatNumber(values[cell]);
  };
  const decision = explorer.kept.decisions.get(cell);
  const wrong = facts("class") !== undefined && facts("prediction") !== undefined && facts("class") !== facts("prediction");
  return (
    <div class="cell">
      <FullCrop explorer={explorer} cell={cell} />
      <h2 title={explorer.name(cell)}>{explorer.name(cell)}</h2>
      <p class="sentence">
        <Chip explorer={explorer} name={facts("class")} />
        {facts("prediction") !== undefined && (
          <>; the network says <Chip explorer={explorer} name={facts("prediction")} /> with {facts("confidence")}{wrong && <b class="wrong"> (wrong)</b>}</>
        )}
      </p>
      {decision !== undefined && (
        <p class="decided">
          {decision === null ? "Set aside" : `Relabelled as ${decision}`}{" "}
          <button class="plain" onClick={() => void explorer.kept.decide([cell], undefined)}>take it back</button>
        </p>
      )}
      <Section title="Nearest cells">
        <Neighbours explorer={explorer} cell={cell} />
      </Section>
      <Section title="Channels that decide">
        <Deciding key={cell} explorer={explorer} cell={cell} />
      </Section>
      <Section title="Path through the maps" open={false}>
        <Path explorer={explorer} cell={cell} />
      </Section>
      <Section title="Numbers" open={false}>
        <table class="numbers">
          <tbody>
            {manifest.columns.filter((column) => !column.key.startsWith("cluster_")).map((column) => (
              <tr key={column.key}><th scope="row">{column.title}</th><td>{facts(column.key) ?? "…"}</td></tr>
            ))}
          </tbody>
        </table>
      </Section>
    </div>
  );
}

export function Chip({ explorer, name }: { explorer: Explorer; name: string | undefined }) {
  const at = explorer.manifest.classes.indexOf(name ?? "");
  const colour = explorer.manifest.class_colours[at];
  return (
    <span class="chip">
      {colour && <span class="swatch" style={{ background: seen(colour, explorer.theme) }} />}
      {name ?? "…"}
    </span>
  );
}

export function LayerChoice(props: { explorer: Explorer; layers: string[]; label: string }) {
  const { explorer, layers } = props;
  if (!layers.length) return null;
  const chosen = layers.includes(explorer.view.layer) ? explorer.view.layer : (layers.at(-1) ?? "");
  return (
    <label class="inline">
      {props.label}{" "}
      <select value={chosen} onChange={(event) => explorer.set({ layer: event.currentTarget.value, channel: -1 })}>
        {layers.map((name) => <option key={name} value={name}>{name}</option>)}
      </select>
    </label>
  );
}

/** Bytes by name, read when they are first shown; null where they are not to be had. */
export function useBytes(explorer: Explorer, name: string): Uint8Array<ArrayBuffer> | null | undefined {
  const [failed, setFailed] = useState("");
  const ready = name ? explorer.arrays.ready(name) : undefined;
  useEffect(() => {
    if (!name || ready) return;
    let here = true;
    explorer.arrays.bytes(name).then(() => here && explorer.tell(), () => here && setFailed(name));
    return () => {
      here = false;
    };
  }, [explorer, name, ready === undefined]);
  return failed === name ? null : ready;
}

function Neighbours({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const layers = explorer.manifest.layers.filter((layer) => layer.neighbours).map((layer) => layer.name);
  const layer = layers.includes(explorer.view.layer) ? explorer.view.layer : (layers.at(-1) ?? "");
  const bytes = useBytes(explorer, layer ? `neighbours/${layer}` : "");
  if (!layers.length) return <p class="quiet">Neighbours are found for runs of up to 50,000 cells.</p>;
  let found: number[] = [];
  if (bytes) {
    const all = new Uint32Array(bytes.buffer);
    const k = all.length / explorer.manifest.n;
    found = Array.from(all.subarray(cell * k, (cell + 1) * k));
  }
  const classes = explorer.values("class");
  const same = classes ? found.filter((other) => classes[other] === classes[cell]).length : 0;
  return (
    <>
      <LayerChoice explorer={explorer} layers={layers} label="in the features of" />
      {bytes === null && <p class="quiet">This file does not hold them.</p>}
      {found.length > 0 && classes && <p class="quiet">{same} of {found.length} are of the same class.</p>}
      <CropRow explorer={explorer} cells={found} side={52} />
    </>
  );
}

export function CropRow(props: { explorer: Explorer; cells: number[]; side: number }) {
  const { explorer, cells, side } = props;
  return (
    <div class="crops">
      {cells.map((cell) => <CropButton key={cell} explorer={explorer} cell={cell} side={side} />)}
    </div>
  );
}

export function CropButton(props: { explorer: Explorer; cell: number; side: number }) {
  const { explorer, cell, side } = props;
  const classes = explorer.values("class");
  const at = classes?.[cell] ?? -1;
  const colour = explorer.manifest.class_colours[at];
  const { full_crops, sheets } = explorer.manifest;
  const alone = !!full_crops && !!sheets && sheets.count > SHEETS; // each would lie on a sheet of its own
  return (
    <button
      class="crop" title={`${explorer.name(cell)}${at >= 0 ? `, ${explorer.manifest.classes[at] ?? ""}` : ""}`}
      style={{ borderColor: colour ? seen(colour, explorer.theme) : "transparent" }}
      onClick={() => explorer.set({ cell, tab: "cell" })}
      onPointerEnter={() => { explorer.hovered = cell; explorer.tell(); }}
      onPointerLeave={() => { explorer.hovered = -1; explorer.tell(); }}
    >
      {alone ? <ServedCrop explorer={explorer} cell={cell} side={side} alone /> : <Crop explorer={explorer} cell={cell} side={side} />}
    </button>
  );
}

/** Where the cell is on every map, and in which cluster. */
function Path({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const { manifest, view } = explorer;
  const layers = Object.keys(manifest.maps[view.method] ?? {});
  useEffect(() => {
    for (const layer of layers) void explorer.arrays.bytes(manifest.maps[view.method][layer].array).then(() => explorer.tell());
  }, [explorer, view.method]);
  return (
    <ol class="path">
      {layers.map((layer) => {
        const place = explorer.place(layer, cell);
        const key = `cluster_${layer}`;
        const column = manifest.columns.find((entry) => entry.key === key);
        const values = column && explorer.values(key);
        const cluster = column?.kind === "category" && values ? column.categories[values[cell]] : undefined;
        return (
          <li key={layer}>
            <button
              class="pathstep" title={`show the map of ${layer}`}
              onClick={() => explorer.set({ layers: view.layers.includes(layer) ? view.layers : [...view.layers.slice(0, -1), layer], layer })}
            >
              <svg viewBox="0 0 40 40" width="40" height="40" aria-hidden="true">
                <rect x="0.5" y="0.5" width="39" height="39" class="frame" />
                {place && <circle cx={2 + (36 * place[0]) / STEPS} cy={38 - (36 * place[1]) / STEPS} r="3.5" class="dot" />}
              </svg>
              <span>{layer}</span>
              {cluster !== undefined && <span class="quiet">cluster {cluster}</span>}
            </button>
          </li>
        );
      })}
    </ol>
  );
}
