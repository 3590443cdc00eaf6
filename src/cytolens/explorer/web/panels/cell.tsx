// One cell: its crop, its numbers, its path through the maps, its neighbours, its channels.

import { useEffect, useState } from "preact/hooks";
import type { Explorer } from "../view/explorer";
import { formatNumber } from "../data/statistics";
import { seen } from "../view/colouring";
import { STEPS } from "../raster/camera";
import { Crop, Picture, Section } from "./parts";
import { FullCrop } from "./crops";

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
  const decision = explorer.decisions.get(cell);
  const wrong = facts("class") !== undefined && facts("prediction") !== undefined && facts("class") !== facts("prediction");
  return (
    <div class="cell">
      <FullCrop explorer={explorer} cell={cell} />
      <h2 title={explorer.name(cell)}>{explorer.name(cell)}</h2>
      <p class="sentence">
        <Chip explorer={explorer} name={facts("class")} />
        {facts("prediction") !== undefined && (
          <> the network says <Chip explorer={explorer} name={facts("prediction")} /> with {facts("confidence")}{wrong && <b class="wrong"> (wrong)</b>}</>
        )}
      </p>
      {decision !== undefined && (
        <p class="decided">
          {decision === null ? "Set aside" : `Relabelled as ${decision}`}{" "}
          <button class="plain" onClick={() => void explorer.decide([cell], undefined)}>take it back</button>
        </p>
      )}
      <Section title="Nearest cells">
        <Neighbours explorer={explorer} cell={cell} />
      </Section>
      <Section title="Channels that decide">
        <Deciding explorer={explorer} cell={cell} />
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
  return (
    <button
      class="crop" title={`${explorer.name(cell)}${at >= 0 ? `, ${explorer.manifest.classes[at] ?? ""}` : ""}`}
      style={{ borderColor: colour ? seen(colour, explorer.theme) : "transparent" }}
      onClick={() => explorer.set({ cell, tab: "cell" })}
      onPointerEnter={() => { explorer.hovered = cell; explorer.tell(); }}
      onPointerLeave={() => { explorer.hovered = -1; explorer.tell(); }}
    >
      <Crop explorer={explorer} cell={cell} side={side} />
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

/** Channels with feature image, activation map and modulated image. */
function Deciding({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const { manifest, view } = explorer;
  const explained = manifest.explained?.[String(cell)];
  if (explained) {
    return (
      <>
        <p class="quiet">
          The study has explained this cell: channels of {explained.layer} by what they add to {explained.predicted} (in logits).
        </p>
        <div class="strip">
          <figure><Picture explorer={explorer} gallery={`explained/${cell}`} index={0} side={72} label="crop" /><figcaption>crop</figcaption></figure>
          <figure><Picture explorer={explorer} gallery={`saliency/${cell}`} index={0} side={72} label="where the evidence lies" /><figcaption>evidence</figcaption></figure>
          <figure><Picture explorer={explorer} gallery={`explained/${cell}`} index={1} side={72} label="sum of the modulated images" /><figcaption>sum</figcaption></figure>
        </div>
        {explained.channels.map((channel, index) => (
          <ChannelRow
            key={channel} explorer={explorer} layer={explained.layer} channel={channel}
            note={`${explained.contributions[index] > 0 ? "+" : ""}${formatNumber(explained.contributions[index])}`}
            own={{ gallery: `explained/${cell}`, index: index + 2 }}
          />
        ))}
      </>
    );
  }
  const layers = Object.keys(manifest.channels ?? {}).filter((name) => Object.keys(manifest.channels?.[name] ?? {}).length);
  const layer = layers.includes(view.layer) ? view.layer : (layers.at(-1) ?? "");
  const known = Object.entries(manifest.channels?.[layer] ?? {});
  const ranked = known
    .map(([channel, facts]) => {
      const values = explorer.values(`activation/${layer}/${channel}`);
      if (!values) return { channel: Number(channel), weight: facts.importance ?? 0, above: undefined };
      let below = 0;
      for (let i = 0; i < values.length; i++) if (values[i] < values[cell]) below++;
      const above = below / values.length;
      return { channel: Number(channel), weight: (facts.importance ?? 0) * above, above };
    })
    .sort((a, b) => b.weight - a.weight)
    .slice(0, 4);
  if (!layer) return <p class="quiet">The run holds no feature images.</p>;
  return (
    <>
      <LayerChoice explorer={explorer} layers={layers} label="at" />
      <p class="quiet">Channels that matter for all decisions, first those which this cell activates more than most cells do.</p>
      {ranked.map(({ channel, above }) => (
        <ChannelRow
          key={channel} explorer={explorer} layer={layer} channel={channel}
          note={above === undefined ? "…" : `more than ${Math.round(100 * above)} % of cells`}
        />
      ))}
    </>
  );
}

export function ChannelRow(props: {
  explorer: Explorer;
  layer: string;
  channel: number;
  note: string;
  own?: { gallery: string; index: number };
}) {
  const { explorer, layer, channel, own } = props;
  const index = (kind: string) => explorer.manifest.galleries.find((gallery) => gallery.name === `${kind}/${layer}`)?.indices?.indexOf(channel) ?? -1;
  const at = index("feature image");
  return (
    <button class="channelrow" onClick={() => explorer.set({ tab: "network", layer, channel })} title={`open channel ${channel} of ${layer}`}>
      {(at >= 0 || own) && <span class="strip">
        <Picture explorer={explorer} gallery={`feature image/${layer}`} index={at} side={56} label={`feature image of channel ${channel}`} />
        <Picture explorer={explorer} gallery={`activation map/${layer}`} index={at} side={56} label="its activation map" />
        {own
          ? <Picture explorer={explorer} gallery={own.gallery} index={own.index} side={56} label="modulated image for this cell" />
          : <Picture explorer={explorer} gallery={`modulated image/${layer}`} index={at} side={56} label="modulated image" />}
      </span>}
      <span><b>channel {channel}</b><br /><span class="quiet">{props.note}</span></span>
    </button>
  );
}
