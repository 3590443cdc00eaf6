// Why a cell has its class: the channels that decide, where each is active in it, and what remains.
// Cells that the study has explained are read; any other is explained by the network, if it is there.

import { useEffect, useState } from "preact/hooks";
import { formatNumber } from "../data/statistics";
import { post } from "../data/source";
import type { Explorer } from "../view/explorer";
import { Asked, follow, type Pictured } from "./ask";
import { LayerChoice } from "./cell";
import { Frames, mainGallery, Picture, placeOf } from "./parts";

interface Explanation {
  layer: string;
  predicted: string;
  probability: number;
  channels: { channel: number; contribution: number; image: Pictured | null; map: Pictured; modulated: Pictured }[];
  sum: Pictured;
  saliency: Pictured;
}

const PATIENCE = 250; // ms that a cell stays chosen before the network is asked about it
const MOST_KEPT = 60;
const known = new Map<string, Explanation>(); // by cell and layer

export function Deciding({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const { manifest } = explorer;
  const [layer, setLayer] = useState(""); // "": the study's choice
  const spatial = manifest.layers.filter((entry) => entry.shape.length === 3 && entry.kind !== "input").map((entry) => entry.name);
  const stored = layer === "" && manifest.explained?.[String(cell)] !== undefined;
  const live = !!manifest.live && !!manifest.network && spatial.length > 0;
  return (
    <>
      {live && (
        <label class="inline">at{" "}
          <select aria-label="depth at which the cell is explained" value={layer} onChange={(event) => setLayer(event.currentTarget.value)}>
            <option value="">the depth that points best</option>
            {spatial.map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        </label>
      )}
      {stored ? <Stored explorer={explorer} cell={cell} /> : live ? <Live explorer={explorer} cell={cell} layer={layer} /> : <Ranked explorer={explorer} cell={cell} />}
      <Frames explorer={explorer} kind="contrast pair" gallery={`contrast/${cell}`} index={0} side={72} />
    </>
  );
}

function Stored({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const explained = explorer.manifest.explained?.[String(cell)];
  if (!explained) return null;
  return (
    <>
      <p class="quiet">Channels of {explained.layer} by what they add to {explained.predicted} (in logits), as the study has found.</p>
      <div class="strip">
        <figure><Picture explorer={explorer} gallery={`explained/${cell}`} index={0} side={72} label="crop" /><figcaption>crop</figcaption></figure>
        <figure><Picture explorer={explorer} gallery={`saliency/${cell}`} index={0} side={72} label="where the evidence lies" /><figcaption>evidence</figcaption></figure>
        <figure><Picture explorer={explorer} gallery={`explained/${cell}`} index={1} side={72} label="sum of the modulated images" /><figcaption>sum</figcaption></figure>
      </div>
      <Head />
      {explained.channels.map((channel, index) => (
        <ChannelRow
          key={channel} explorer={explorer} layer={explained.layer} channel={channel} note={signed(explained.contributions[index])}
          own={[
            <Picture key="map" explorer={explorer} gallery={`active/${cell}`} index={index} side={56} label="where it is active in this cell" />,
            <Picture key="rest" explorer={explorer} gallery={`explained/${cell}`} index={index + 2} side={56} label="modulated image for this cell" />,
          ]}
        />
      ))}
    </>
  );
}

/** Ask the network about a cell; what can be said without it stands there meanwhile. */
function Live({ explorer, cell, layer }: { explorer: Explorer; cell: number; layer: string }) {
  const key = `${cell}/${layer}`;
  const [found, setFound] = useState(known.get(key));
  const [note, setNote] = useState("");
  const [failed, setFailed] = useState(false);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const before = known.get(key);
    setFound(before);
    if (before) return;
    let here = true;
    let number = 0;
    let ended = false;
    const ask = async () => {
      setNote("asking the network …");
      setFailed(false);
      try {
        ({ number } = (await (await post("explain", { cell, layer: layer || null })).json()) as { number: number });
        await follow(number, (answer) => {
          if (!here) return false;
          ended = !["waiting", "working"].includes(answer.state);
          setFailed(ended && answer.state !== "done");
          setNote(answer.state === "cancelled" ? "Another question came first." : answer.note);
          if (answer.channels) {
            const made = answer as unknown as Explanation;
            setFound(made);
            if (answer.state === "done") keep(key, made);
          }
          return true;
        });
      } catch (error) {
        ended = true;
        setFailed(true);
        setNote(error instanceof Error ? error.message : String(error));
      }
    };
    const timer = setTimeout(() => void ask(), PATIENCE);
    return () => {
      here = false;
      clearTimeout(timer);
      if (number && !ended) void post(`ask/${number}/cancel`, {}).catch(() => undefined);
    };
  }, [key, turn]);
  const status = note && (
    <p class="quiet" role="status">{note} {failed && <button class="plain" onClick={() => setTurn(turn + 1)}>ask again</button>}</p>
  );
  if (!found) return <>{status}<Ranked explorer={explorer} cell={cell} /></>;
  return (
    <div class="explained">
      <p class="quiet">Channels of {found.layer} by what they add to {found.predicted} (in logits), for this cell.</p>
      <div class="strip">
        <figure><Asked explorer={explorer} picture={found.saliency} side={72} label="where the evidence lies" /><figcaption>evidence</figcaption></figure>
        <figure><Asked explorer={explorer} picture={found.sum} side={72} label="sum of the modulated images" /><figcaption>sum</figcaption></figure>
      </div>
      <Head />
      {found.channels.map((entry) => (
        <ChannelRow
          key={entry.channel} explorer={explorer} layer={found.layer} channel={entry.channel} note={signed(entry.contribution)}
          image={entry.image ? <Asked explorer={explorer} picture={entry.image} side={56} label={`feature image of channel ${entry.channel}`} /> : <span class="nopicture">being made</span>}
          own={[
            <Asked key="map" explorer={explorer} picture={entry.map} side={56} label="where it is active in this cell" />,
            <Asked key="rest" explorer={explorer} picture={entry.modulated} side={56} label="modulated image for this cell" />,
          ]}
        />
      ))}
      {status}
    </div>
  );
}

function Head() {
  return <p class="strip head" aria-hidden="true"><span>feature image</span><span>active here</span><span>modulated</span></p>;
}

function keep(key: string, made: Explanation): void {
  known.set(key, made);
  for (const first of known.keys()) {
    if (known.size <= MOST_KEPT) return;
    known.delete(first);
  }
}

function signed(contribution: number): string {
  return `${contribution > 0 ? "+" : ""}${formatNumber(contribution)}`;
}

/** Without the network: channels that matter for all decisions and that this cell activates much. */
function Ranked({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const { manifest, view } = explorer;
  const layers = Object.keys(manifest.channels ?? {}).filter((name) => Object.keys(manifest.channels?.[name] ?? {}).length);
  const layer = layers.includes(view.layer) ? view.layer : (layers.at(-1) ?? "");
  const ranked = Object.entries(manifest.channels?.[layer] ?? {})
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
      <LayerChoice explorer={explorer} layers={layers} label="without the network, at" />
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

type Shown = preact.ComponentChildren;

/** A channel with its pictures. `own`: for one cell, where it is active and what remains. */
export function ChannelRow(props: { explorer: Explorer; layer: string; channel: number; note: string; image?: Shown; own?: Shown[] }) {
  const { explorer, layer, channel, own } = props;
  const gallery = mainGallery(explorer, layer);
  const at = placeOf(explorer, gallery, channel);
  const whole = placeOf(explorer, `feature image/${layer}`, channel);
  return (
    <button class="channelrow" onClick={() => explorer.set({ tab: "network", layer, channel })} title={`open channel ${channel} of ${layer}`}>
      {(at >= 0 || own) && <span class="strip">
        {props.image ?? (at >= 0
          ? <Picture explorer={explorer} gallery={gallery} index={at} side={56} label={`feature image of channel ${channel}`} />
          : <span class="nopicture">no image</span>)}
        {own ?? (
          <>
            <Picture explorer={explorer} gallery={`activation map/${layer}`} index={whole} side={56} label="its activation map" />
            <Picture explorer={explorer} gallery={`modulated image/${layer}`} index={whole} side={56} label="modulated image" />
          </>
        )}
      </span>}
      <span><b>channel {channel}</b><br /><span class="quiet">{props.note}</span></span>
    </button>
  );
}
