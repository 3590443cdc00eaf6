// The network: layers by depth with their curves and galleries; and a page for every channel.

import type { Explorer } from "../view/explorer";
import type { Layer } from "../data/manifest";
import { formatCount, formatNumber } from "../data/statistics";
import { seen } from "../view/colouring";
import { CropRow } from "./cell";
import { DepthCurve, Frames, FrameStrip, mainGallery, Origin, Picture, placeOf, Section } from "./parts";

const MEASURES: Record<string, string> = {
  probe_accuracy: "Separation: accuracy of a linear probe",
  knn_accuracy: "Separation: accuracy of nearest neighbours",
  silhouette: "Separation: silhouette",
};
const COMPLEXITY = "second_order"; // the description that holds all others

export function NetworkPanel({ explorer }: { explorer: Explorer }) {
  const { view, manifest } = explorer;
  if (view.channel >= 0) return <ChannelPage explorer={explorer} layer={view.layer} channel={view.channel} />;
  const { layers } = manifest;
  const chosen = Math.max(0, layers.findIndex((layer) => layer.name === view.layer));
  const layer = layers[chosen];
  const pick = (index: number) => explorer.set({ layer: layers[index].name, channel: -1 });
  const curve = (from: "separation" | "complexity", name: string) => {
    const values = layers.map((entry) => entry[from][name]);
    return {
      values: values.map((entry) => entry?.value),
      low: values.map((entry) => entry?.low),
      high: values.map((entry) => entry?.high),
      untrained: values.map((entry) => entry?.untrained),
      chance: values.map((entry) => entry?.null),
    };
  };
  const complexity = curve("complexity", COMPLEXITY);
  return (
    <div class="network">
      <ol class="layers" aria-label="layers, in depth order">
        {layers.map((entry, index) => (
          <li key={entry.name}>
            <button class={index === chosen ? "layer chosen" : "layer"} aria-pressed={index === chosen} onClick={() => pick(index)} title={`${entry.kind}, ${entry.shape.join(" × ")}`}>
              {entry.name}
            </button>
          </li>
        ))}
      </ol>
      {Object.entries(MEASURES).slice(0, 2).map(([name, title]) => {
        const found = curve("separation", name);
        return (
          <DepthCurve
            key={name} title={title} names={layers.map((entry) => entry.name)} chosen={chosen} format={formatNumber} onPick={pick}
            lines={[
              { name: "trained", colour: seen("#0072B2", explorer.theme), values: found.values, low: found.low, high: found.high },
              { name: "before training", colour: seen("#D55E00", explorer.theme), dashed: true, values: found.untrained },
              { name: "chance, 95 %", colour: "#8A8A8A", dashed: true, values: found.chance },
            ]}
          />
        );
      })}
      {complexity.values.some((value) => value !== undefined) && (
        <DepthCurve
          title="Complexity: share that simple descriptions of a cell explain" names={layers.map((entry) => entry.name)} chosen={chosen} format={formatNumber} onPick={pick}
          lines={[
            { name: "trained", colour: seen("#009E73", explorer.theme), values: complexity.values, low: complexity.low, high: complexity.high },
            { name: "before training", colour: seen("#D55E00", explorer.theme), dashed: true, values: complexity.untrained },
          ]}
        />
      )}
      {layer && <LayerPage explorer={explorer} layer={layer} />}
    </div>
  );
}

function LayerPage({ explorer, layer }: { explorer: Explorer; layer: Layer }) {
  const galleries = explorer.manifest.galleries.filter((gallery) => gallery.layer === layer.name && !gallery.kind.startsWith("explained") && !["saliency", "active", "start"].includes(gallery.kind) && !gallery.frames);
  const kinds = ["on its field", "feature image", "modulated image", "activation map", "class", "cluster", "without a prior", "before training"];
  galleries.sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind));
  const titles: Record<string, string> = {
    "on its field": "Feature images on what a neuron sees",
    "feature image": mainGallery(explorer, layer.name).startsWith("field") ? "On a whole crop, without a prior" : "Feature images", "modulated image": "Modulated images", "activation map": "Activation maps",
    class: "Images of the classes", cluster: "Images of the clusters", "without a prior": "Without a prior", "before training": "Before training",
  };
  return (
    <>
      <h2>{layer.name}</h2>
      <p class="quiet">
        {layer.kind}, {layer.shape.join(" × ")}{layer.receptive_field ? `, sees ${layer.receptive_field} px` : ""}.{" "}
        <button class="plain" onClick={() => explorer.set({ layers: explorer.view.layers.includes(layer.name) ? explorer.view.layers : [...explorer.view.layers.slice(0, -1), layer.name] })}>show its map</button>
      </p>
      {!galleries.length && <p class="quiet">The run holds no images of this layer.</p>}
      {galleries.map((gallery, index) => (
        <Section key={gallery.name} title={`${titles[gallery.kind] ?? gallery.kind} (${gallery.count})`} open={index < 1}>
          {explorer.gallery(`${gallery.kind} start/${layer.name}`)
            ? gallery.targets.slice(0, gallery.count).map((target, at) => (
              <Origin key={target} explorer={explorer} of={`${gallery.kind} `} layer={layer.name} index={at} side={SIDE} label={target}>
                <figure><Picture explorer={explorer} gallery={gallery.name} index={at} side={SIDE} label={`${gallery.kind} of ${target}`} /><figcaption>{target}</figcaption></figure>
              </Origin>
            ))
            : (
              <div class="gallery">
                {gallery.targets.slice(0, gallery.count).map((target, at) => {
                  const channel = gallery.indices?.[at] ?? -1;
                  return (
                    <button
                      key={target} class="picture" disabled={channel < 0} title={channel >= 0 ? `open ${target}` : target}
                      onClick={() => explorer.set({ layer: layer.name, channel })}
                    >
                      <Picture explorer={explorer} gallery={gallery.name} index={at} side={64} label={`${gallery.kind} of ${target}`} />
                      <span>{target.replace("channel ", "ch ")}</span>
                    </button>
                  );
                })}
              </div>
            )}
        </Section>
      ))}
      {layer.importance && <Ranking explorer={explorer} layer={layer} />}
    </>
  );
}

function Ranking({ explorer, layer }: { explorer: Explorer; layer: Layer }) {
  const ranked = (layer.importance ?? []).map((value, channel) => ({ channel, value: value ?? 0 })).sort((a, b) => b.value - a.value);
  const most = ranked[0]?.value || 1;
  return (
    <Section title={`All channels by importance (${ranked.length})`} open={false}>
      <div class="ranking">
        {ranked.map(({ channel, value }) => (
          <button key={channel} onClick={() => explorer.set({ layer: layer.name, channel })} title={`channel ${channel}: importance ${formatNumber(value)}`}>
            <span class="name">{channel}</span><span class="track"><span class="fill" style={{ width: `${(100 * value) / most}%` }} /></span><span class="number">{formatNumber(value)}</span>
          </button>
        ))}
      </div>
      <p class="quiet">Importance: mean |gradient × activation| over cells, in logits.</p>
    </Section>
  );
}

function ChannelPage({ explorer, layer, channel }: { explorer: Explorer; layer: string; channel: number }) {
  const { manifest } = explorer;
  const facts = manifest.channels?.[layer]?.[String(channel)];
  const at = (kind: string) => placeOf(explorer, `${kind}/${layer}`, channel);
  const entry = manifest.layers.find((other) => other.name === layer);
  const key = `activation/${layer}/${channel}`;
  const coloured = explorer.view.colour === key;
  const values = explorer.arrays.source.has(key) ? explorer.values(key) : undefined;
  const best = facts?.best?.length ? facts.best : strongest(values, 12);
  return (
    <div class="channelpage">
      <p><button class="plain" onClick={() => explorer.set({ channel: -1 })}>‹ {layer}</button></p>
      <h2>Channel {channel} of {layer}</h2>
      {facts?.failure && <p class="warning">Do not believe this image: {facts.failure}.</p>}
      {facts?.dead && <p class="warning">This channel never rises above zero.</p>}
      <Images explorer={explorer} layer={layer} channel={channel} />
      <Frames explorer={explorer} kind="contrast pair" gallery={`contrast/${layer}`} index={at("contrast")} side={92} />
      {at("feature image") < 0 && <p class="quiet">The run holds no feature image of this channel{facts === undefined && entry?.importance ? "; it matters less than others, or is a near-duplicate of one" : ""}.</p>}
      <div class="row">
        <button disabled={coloured || !explorer.arrays.source.has(key)} onClick={() => explorer.set({ colour: key, range: null })}>{coloured ? "The maps show it" : "Colour the maps by it"}</button>
      </div>
      <h3>Cells that activate it most</h3>
      <CropRow explorer={explorer} cells={best} side={44} />
      {facts?.histogram && facts.edges && <ClassHistogram explorer={explorer} histogram={facts.histogram} edges={facts.edges} />}
      <table class="numbers">
        <tbody>
          <Fact name="importance (logits)" value={facts?.importance ?? entry?.importance?.[channel]} />
          <Fact name="decision changes without it (logits)" value={facts?.ablation} />
          <Fact name="activation on its image" value={facts?.reached} />
          <Fact name="highest on a cell" value={facts?.natural[2]} />
          <Fact name="its image predicts its activations" value={facts?.trust?.predictivity} />
          {Object.entries(facts?.auc ?? {}).map(([name, value]) => <Fact key={name} name={`AUC of ${name}`} value={value} />)}
          {Object.entries(facts?.correlations ?? {}).map(([name, estimate]) => <Fact key={name} name={`goes with ${name.replaceAll("_", " ")}`} value={estimate.value} />)}
        </tbody>
      </table>
      {facts?.members && facts.members.length > 1 && <p class="quiet">It stands for its near-duplicates: channels {facts.members.slice(1).join(", ")}.</p>}
    </div>
  );
}

const SIDE = 72; // px of a picture

/** What the run has made of a channel: on what it sees or of whole cells, with what it was made from. */
function Images({ explorer, layer, channel }: { explorer: Explorer; layer: string; channel: number }) {
  const at = (kind: string) => placeOf(explorer, `${kind}/${layer}`, channel);
  const size = explorer.gallery(`field/${layer}`)?.entry.size;
  const one = (kind: string, index: number, text: string) =>
    explorer.gallery(`${kind}/${layer}`) && index >= 0
      ? <figure><Picture explorer={explorer} gallery={`${kind}/${layer}`} index={index} side={SIDE} label={`${kind} of channel ${channel}`} /><figcaption>{text}</figcaption></figure>
      : null;
  const onField = at("field") >= 0;
  const fromCell = at("start") >= 0;
  return (
    <>
      {onField && (
        <>
          <div class="strip wrap">
            {one("field", at("field"), "what it looks for")}
            <FrameStrip explorer={explorer} gallery={`patches/${layer}`} index={at("patches")} side={SIDE} prefix={`channel ${channel}: `} />
          </div>
          <p class="quiet">A neuron of {layer} sees {size}. Below: the same channel on a whole crop, without a prior.</p>
        </>
      )}
      {fromCell && (
        <Origin explorer={explorer} of="" layer={layer} index={at("start")} side={SIDE} label={`channel ${channel}`}>
          {one("feature image", at("feature image"), "feature image")}
        </Origin>
      )}
      {fromCell && (
        <p class="quiet">Change: orange is brighter than in that cell, purple darker.</p>
      )}
      <div class="strip wrap">
        {!fromCell && one("feature image", at("feature image"), onField ? "on a whole crop" : "feature image")}
        {one("activation map", at("activation map"), "activation map")}
        {one("modulated image", at("feature image"), "modulated")}
      </div>
    </>
  );
}

function strongest(values: ArrayLike<number> | undefined, most: number): number[] {
  if (!values) return [];
  const found: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (found.length === most && values[i] <= values[found[most - 1]]) continue;
    let place = found.length;
    while (place > 0 && values[found[place - 1]] < values[i]) place--;
    found.splice(place, 0, i);
    if (found.length > most) found.pop();
  }
  return found;
}

function Fact({ name, value }: { name: string; value: number | null | undefined }) {
  return value === undefined || value === null ? null : <tr><th scope="row">{name}</th><td>{formatNumber(value)}</td></tr>;
}

function ClassHistogram(props: { explorer: Explorer; histogram: number[][]; edges: number[] }) {
  const { explorer, histogram, edges } = props;
  const most = Math.max(...histogram.flat(), 1e-9);
  const width = 296;
  const height = 90;
  const x = (value: number) => (width * (value - edges[0])) / ((edges.at(-1) ?? 1) - edges[0] || 1);
  return (
    <figure class="curve">
      <figcaption>Mean activation, by class</figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`histogram of the mean activation for ${formatCount(histogram.length)} classes`}>
        {histogram.map((row, index) => (
          <polyline
            key={index} class="line" style={{ color: seen(explorer.manifest.class_colours[index], explorer.theme) }}
            points={row.flatMap((value, bin) => [`${x(edges[bin])},${78 - (70 * value) / most}`, `${x(edges[bin + 1])},${78 - (70 * value) / most}`]).join(" ")}
          />
        ))}
        <line class="axis" x1="0" x2={width} y1="78" y2="78" />
        <text x="0" y="89">{formatNumber(edges[0])}</text>
        <text x={width} y="89" text-anchor="end">{formatNumber(edges.at(-1))}</text>
      </svg>
      <div class="key">
        {explorer.manifest.classes.map((name, index) => <span key={name}><span class="swatch" style={{ background: seen(explorer.manifest.class_colours[index], explorer.theme) }} /> {name}</span>)}
      </div>
    </figure>
  );
}
