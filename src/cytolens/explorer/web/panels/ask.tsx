// Asking the network: what it sees in a selection at a depth, or what tells it from another.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Gallery, Gate } from "../data/manifest";
import { countCategories } from "../data/statistics";
import type { Values } from "../view/colouring";
import { members } from "../data/shapes";
import { get, post } from "../data/source";
import type { Explorer } from "../view/explorer";
import { CropRow } from "./cell";
import { ChannelRow } from "./deciding";
import { usualLook } from "../data/sheets";
import { useComposed } from "./crops";
import { Origin, Picture, usePaced } from "./parts";

interface Answer {
  state: "waiting" | "working" | "done" | "failed" | "cancelled";
  note: string;
  version: number;
  steps?: number;
  last?: number;
  picture?: Pictured;
  start?: Pictured; // the cell that it began as
  likeness?: number;
  nearest?: number;
}
/** A picture as PNGs in base64: one in colour, or one per image channel. */
export interface Pictured {
  channels: string[];
  colour: boolean;
}
interface Real {
  chosen: number[];
  elsewhere: number[];
  opposite: number[];
}
interface Telling {
  channel: number;
  auc: number;
}

const GREY = usualLook(1);

/** Follow a question until it ends. */
export async function follow(number: number, tell: (answer: Answer & Record<string, unknown>) => boolean): Promise<void> {
  let after = -1;
  for (;;) {
    const answer = (await (await get(`ask/${number}?after=${after}`)).json()) as Answer & Record<string, unknown>;
    if (!tell(answer) || !["waiting", "working"].includes(answer.state)) return;
    after = answer.version;
  }
}

export function Question({ explorer }: { explorer: Explorer }) {
  const { manifest } = explorer;
  const [against, setAgainst] = useState("");
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [telling, setTelling] = useState<{ layer: string; channels: Telling[]; real: Real } | null>(null);
  const [asked, setAsked] = useState("");
  const current = useRef(0);
  const turn = useRef<unknown>(null); // the last question
  const layers = manifest.layers.filter((layer) => layer.channels > 0).map((layer) => layer.name);
  const layer = layers.includes(explorer.view.layer) ? explorer.view.layer : (layers.at(-1) ?? "");
  useEffect(() => {
    if (manifest.live && manifest.network) void post("ask/ready", {}).catch(() => undefined);
    return () => {
      if (current.current) void post(`ask/${current.current}/cancel`, {}).catch(() => undefined);
    };
  }, [manifest]);
  if (!manifest.live) {
    return (
      <>
        <Precomputed explorer={explorer} />
        <p class="quiet">The network is not in this file. All images that the study has made are under “Network”. To ask about these very cells, open the run itself: cytolens explore RUN</p>
      </>
    );
  }
  if (!manifest.network) {
    return <p class="quiet">This run’s network is a Python file, which is not run unless you trust it: cytolens explore RUN --trust-model</p>;
  }
  const others = async (): Promise<number[] | null> => {
    if (!against) return null;
    const gate = explorer.kept.gates.find((entry: Gate) => entry.name === against);
    const mask = gate ? await explorer.kept.maskOf(gate) : new Uint8Array(0);
    return members(mask).filter((cell) => !explorer.mask[cell]);
  };
  const ask = async () => {
    const started = performance.now();
    setAnswer({ state: "waiting", note: "asking …", version: 0 });
    setTelling(null);
    document.documentElement.dataset.asked = "";
    document.documentElement.dataset.answered = "";
    try {
      const question = { cells: members(explorer.mask), others: await others(), layer };
      turn.current = question;
      setAsked(`${question.cells.length.toLocaleString("en-US")} cells ${against ? `against “${against}”` : "against all"}, at ${layer}`);
      const asking = post("ask", question); // first, as it takes longest
      void post("compare", question).then(async (answer) => {
        const { channels, real } = (await answer.json()) as { channels: Telling[]; real: Real };
        if (turn.current !== question) return;
        setTelling({ layer, channels, real });
        document.documentElement.dataset.answered = String(Math.round(performance.now() - started));
      }, () => undefined); // the question itself says what is wrong
      const given = (await (await asking).json()) as { number: number };
      current.current = given.number;
      await follow(given.number, (next) => {
        if (current.current !== given.number) return false;
        setAnswer(next);
        if (next.picture && !document.documentElement.dataset.asked) document.documentElement.dataset.asked = String(Math.round(performance.now() - started));
        return true;
      });
    } catch (error) {
      setAnswer({ state: "failed", note: error instanceof Error ? error.message : String(error), version: 0 });
    }
  };
  const working = answer !== null && (answer.state === "waiting" || answer.state === "working");
  const cancel = () => void post(`ask/${current.current}/cancel`, {}).catch(() => undefined);
  return (
    <div class="ask">
      <div class="row wrap">
        <label class="inline">at{" "}
          <select aria-label="depth of the question" value={layer} onChange={(event) => explorer.set({ layer: event.currentTarget.value, channel: -1 })}>
            {layers.map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <label class="inline">against{" "}
          <select aria-label="compared with" value={against} onChange={(event) => setAgainst(event.currentTarget.value)}>
            <option value="">all cells</option>
            {explorer.kept.gates.map((gate) => <option key={gate.name} value={gate.name}>{gate.name}</option>)}
          </select>
        </label>
        {working
          ? <button onClick={cancel}>Stop</button>
          : <button class="primary" onClick={() => void ask()}>{against ? "What tells these apart?" : "What does it see in these?"}</button>}
      </div>
      {answer?.picture && <Asked explorer={explorer} picture={answer.picture} />}
      {answer?.start && <figure><Asked explorer={explorer} picture={answer.start} side={72} label="the cell that it began as" /><figcaption>the cell it began as</figcaption></figure>}
      {answer?.start && <p class="quiet">Pixel correlation with that cell {answer.likeness?.toFixed(2)}, with the nearest real cell {answer.nearest?.toFixed(2)}.</p>}
      {answer && !answer.picture && <Precomputed explorer={explorer} />}
      {answer && (
        <p class="quiet" role="status">
          {answer.state === "failed" ? answer.note
            : answer.state === "cancelled" ? "Stopped."
            : answer.state === "done" ? `Done: ${asked}.`
            : answer.picture ? `Refining: ${answer.note} of ${answer.last ?? ""}` : answer.note}
        </p>
      )}
      {answer?.picture && answer.state === "done" && <p class="quiet">An image that makes the layer answer as it does to these cells rather than to the others. It shows what differs on average, not what every cell has.</p>}
      {telling && <RealCells explorer={explorer} real={telling.real} against={against} />}
      {telling && telling.channels.length > 0 && (
        <>
          <p class="quiet">Channels that tell them apart (AUC; .5: not at all):</p>
          {telling.channels.slice(0, 4).map(({ channel, auc }) => (
            <ChannelRow key={channel} explorer={explorer} layer={telling.layer} channel={channel} note={`AUC ${auc.toFixed(2)}: ${auc > 0.5 ? "higher" : "lower"} in these`} />
          ))}
        </>
      )}
    </div>
  );
}

/** The answer in real cells, which is there at once. */
function RealCells({ explorer, real, against }: { explorer: Explorer; real: Real; against: string }) {
  const rows: [string, number[]][] = [
    ["Most of it, among the selected cells:", real.chosen],
    [`Most of it, ${against ? `in “${against}”` : "elsewhere"}:`, real.elsewhere],
    ["Least of it:", real.opposite],
  ];
  return (
    <div class="real">
      <h3>The same in real cells</h3>
      {rows.filter(([, cells]) => cells.length).map(([text, cells]) => (
        <div key={text}><p class="quiet">{text}</p><CropRow explorer={explorer} cells={cells} side={44} /></div>
      ))}
    </div>
  );
}

/** What the study has made that is nearest to the selection: all that a file holds, and until the network answers. */
function Precomputed({ explorer }: { explorer: Explorer }) {
  const { manifest, mask } = explorer;
  const made = manifest.galleries.filter((entry) => entry.kind === "class" || entry.kind === "cluster");
  const values = made.map((gallery) => explorer.values(gallery.kind === "class" ? "class" : `cluster_${gallery.layer}`));
  const found = usePaced(() => nearestMade(explorer, made, values), [mask, values.filter(Boolean).length]);
  if (!found) return null;
  const { gallery, index, name, share, of } = found;
  return (
    <>
      <Picture explorer={explorer} gallery={gallery} index={index} side={150} label={`the study's image of ${name}`} />
      <Origin explorer={explorer} of={`${gallery.split("/")[0]} `} layer={gallery.slice(gallery.indexOf("/") + 1)} index={index} side={72} label={name} />
      <p class="quiet">Made by the study, of {name}: {Math.round(100 * share)} % of your cells are of it, and they are {Math.round(100 * of)} % of it.</p>
    </>
  );
}

interface Made { gallery: string; index: number; name: string; share: number; of: number }

/** The class or cluster with an image of its own that shares most cells with the selection. */
function* nearestMade(explorer: Explorer, made: Gallery[], values: (Values | undefined)[]): Generator<void, Made | undefined> {
  const { mask, selected } = explorer;
  const none = new Uint8Array(mask.length);
  let best: Made | undefined;
  let most = 0;
  for (const [at, gallery] of made.entries()) {
    const column = explorer.column(gallery.kind === "class" ? "class" : `cluster_${gallery.layer}`);
    const held = values[at];
    if (column?.kind !== "category" || !held) continue;
    const { inside, all } = yield* countCategories(held, mask, none);
    for (const [index, target] of gallery.targets.entries()) {
      const code = column.categories.findIndex((name) => target === name || target === `cluster ${name}` || target.startsWith(`${name} - `));
      if (code < 0 || !inside[code]) continue;
      const overlap = inside[code] / (selected + all[code] - inside[code]);
      if (overlap <= most) continue;
      most = overlap;
      const name = gallery.kind === "class" ? target : `${target} at ${gallery.layer}`;
      best = { gallery: gallery.name, index, name, share: inside[code] / selected, of: inside[code] / all[code] };
    }
  }
  return best;
}

/** A picture that came from the server; one that is not a crop, such as a map, is shown grey. */
export function Asked(props: { explorer: Explorer; picture: Pictured; side?: number; label?: string }) {
  const { explorer, picture } = props;
  const look = picture.colour || picture.channels.length === explorer.view.look.shown.length ? explorer.view.look : GREY;
  const shown = picture.colour ? [0] : look.shown.flatMap((on, i) => (on && i < picture.channels.length ? [i] : []));
  const read = async () => shown.map((channel) => Uint8Array.from(atob(picture.channels[channel]), (letter) => letter.charCodeAt(0)));
  const canvas = useComposed(read, shown, picture.colour, look, picture);
  const side = props.side ?? 150;
  return <canvas ref={canvas} class="tile" role="img" aria-label={props.label ?? "what the network sees in these cells"} style={{ width: `${side}px`, height: "auto" }} />;
}
