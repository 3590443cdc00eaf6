// New cells: dropped onto the page, placed on the maps by the server.

import { useState } from "preact/hooks";
import { post } from "../data/source";
import { formatNumber } from "../data/statistics";
import type { Explorer, Placed } from "../view/explorer";
import { Asked, follow } from "./ask";
import { Chip } from "./cell";

/** All files of a drop, those in folders too, in the order of their paths. */
export async function filesOf(items: DataTransferItemList): Promise<File[]> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry): entry is FileSystemEntry => entry !== null);
  const found: [string, File][] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) {
      found.push([entry.fullPath, await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))]);
    } else {
      const reader = (entry as FileSystemDirectoryEntry).createReader();
      for (;;) {
        const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
        if (!batch.length) return;
        for (const inner of batch) await walk(inner);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found.sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([, file]) => file);
}

const TAKEN = /\.(npz|npy|tiff?|png|jpe?g|bmp)$/i; // what the server takes

export async function placeFiles(explorer: Explorer, given: File[]): Promise<void> {
  const files = given.filter((file) => TAKEN.test(file.name)); // a folder has other files, too
  const tell = (text: string) => {
    explorer.placing = text;
    explorer.tell();
  };
  if (!files.length) return tell("None of that is an image, a stack or an .npz file.");
  try {
    const { batch } = (await (await post("new/start", {})).json()) as { batch: string };
    for (const [index, file] of files.entries()) {
      tell(`sending file ${index + 1} of ${files.length}`);
      await post(`new/${batch}?name=${encodeURIComponent(file.name)}`, file);
    }
    const { number } = (await (await post("new/place", { batch })).json()) as { number: number };
    await follow(number, (answer) => {
      tell(answer.state === "done" ? "" : answer.note);
      if (answer.state === "done") {
        explorer.placed = answer as unknown as Placed;
        explorer.say(`${explorer.placed.names.length} new cells are on the maps.`);
      }
      return true;
    });
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  }
}

export function NewCells({ explorer }: { explorer: Explorer }) {
  const [over, setOver] = useState(false);
  const { placed, placing } = explorer;
  const take = (event: { currentTarget: HTMLInputElement }) => {
    const files = [...(event.currentTarget.files ?? [])];
    if (files.length) void placeFiles(explorer, files);
  };
  if (!explorer.manifest.network) {
    return <p class="quiet">Placing new cells runs this run’s network, a Python file, which is not run unless you trust it: cytolens explore RUN --trust-model</p>;
  }
  return (
    <div class="new">
      <div
        class={over ? "drop over" : "drop"}
        onDragOver={() => setOver(true)}
        onDragLeave={() => setOver(false)}
        onDrop={() => setOver(false)}
      >
        <p>Drop crops anywhere on the page that the run has not seen: images, a folder of them, or an .npz file.</p>
        <label class="button">
          Choose files
          <input type="file" multiple onChange={take} />
        </label>{" "}
        <label class="button">
          Choose a folder
          <input type="file" multiple {...{ webkitdirectory: true }} onChange={take} />
        </label>
      </div>
      {placing && <p role="status" class="quiet">{placing}</p>}
      {placed && (
        <>
          <h2>{placed.names.length} new cells</h2>
          <p class="quiet">
            Diamonds on the maps. {placed.odd.filter(Boolean).length} of them are odd: unlike any cell of the run, judged over all depths.
            {placed.remarks.map((remark) => ` ${remark}.`)}
          </p>
          <div class="row">
            <button onClick={() => { explorer.placed = null; explorer.tell(); }}>Remove them</button>
          </div>
          <ul class="newcells">
            {placed.names.slice(0, 200).map((name, index) => (
              <li key={index}>
                <Asked explorer={explorer} side={48} picture={{ channels: placed.pictures[index], colour: explorer.manifest.sheets?.colour ?? false }} />
                <span>
                  <span class="quiet">{name.replace(/^\d{5}_/, "")}</span><br />
                  <Chip explorer={explorer} name={explorer.manifest.classes[placed.predicted[index]]} />{placed.confidence && ` ${formatNumber(placed.confidence[index])}`}
                  {placed.odd[index] && <b class="wrong"> odd</b>}
                  {!placed.odd[index] && placed.depths_odd[index] > 0 && <span class="quiet"> odd at {placed.depths_odd[index]} depths</span>}
                </span>
              </li>
            ))}
          </ul>
          {placed.names.length > 200 && <p class="quiet">and {placed.names.length - 200} more, on the maps</p>}
        </>
      )}
    </div>
  );
}
