// The crop of a cell, large, with what each image channel shows.

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Explorer } from "../view/explorer";
import { compose, rgbOf, type Look } from "../data/sheets";
import { Crop } from "./parts";

const SIDE = 190;

/** The crop as large as the panel allows: at its full size from the server, else from the sheet. */
export function FullCrop({ explorer, cell }: { explorer: Explorer; cell: number }) {
  const { manifest, view } = explorer;
  if (!manifest.sheets) return null;
  const [height, width] = manifest.sheets.crop;
  const scale = manifest.pixel_size;
  return (
    <div class="fullcrop">
      {manifest.full_crops
        ? <ServedCrop key={cell} explorer={explorer} cell={cell} side={SIDE} />
        : <Crop explorer={explorer} cell={cell} side={SIDE} />}
      <p class="quiet">
        {width} × {height} px{scale ? `, ${(width * scale).toFixed(1)} µm wide` : ""}
        {!manifest.sheets.colour && `; ${view.look.shown.flatMap((on, i) => (on ? [manifest.sheets?.channels[i] ?? ""] : [])).join(" + ")}`}
      </p>
    </div>
  );
}

/** A crop at its full size from the server, over the one from the sheet, which is often there sooner. */
export function ServedCrop({ explorer, cell, side, alone }: { explorer: Explorer; cell: number; side: number; alone?: boolean }) {
  const { look } = explorer.view;
  const entry = explorer.manifest.sheets;
  const channels = !entry ? [] : entry.colour ? [0] : look.shown.flatMap((on, i) => (on ? [i] : []));
  const names = explorer.cropNames(cell);
  const read = () => Promise.all(names.map((name) => explorer.arrays.bytes(name) as Promise<BlobPart>));
  const canvas = useComposed(read, channels, entry?.colour ?? false, look, names.join());
  const [height, width] = entry?.crop ?? [1, 1];
  const scale = side / Math.max(width, height);
  return (
    <span class="stack">
      <canvas
        ref={canvas} class="tile" role="img" aria-label={`crop of ${explorer.name(cell)}`}
        style={{ width: `${width * scale}px`, height: `${height * scale}px` }}
      />
      {!alone && <Crop explorer={explorer} cell={cell} side={side} />}
    </span>
  );
}

/** A canvas onto which PNGs, one per image channel, are composed as the page's look asks. */
export function useComposed(
  read: () => Promise<BlobPart[]>, channels: number[], colour: boolean, look: Look, key: unknown,
): RefObject<HTMLCanvasElement | null> {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    let here = true;
    const draw = async () => {
      const planes = await Promise.all((await read()).map((part) => createImageBitmap(new Blob([part], { type: "image/png" }))));
      const target = canvas.current;
      const context = target?.getContext("2d", { willReadFrequently: true });
      if (!here || !target || !context || !planes.length) return;
      const { width, height } = planes[0];
      target.width = width;
      target.height = height;
      const pixels = planes.map((plane) => {
        context.drawImage(plane, 0, 0);
        return context.getImageData(0, 0, width, height).data;
      });
      const out = compose(pixels, channels.map((channel) => rgbOf(look.tints[channel])), look.low, look.high, colour);
      context.putImageData(new ImageData(out as Uint8ClampedArray<ArrayBuffer>, width, height), 0, 0);
    };
    draw().catch(() => undefined);
    return () => {
      here = false;
    };
  }, [key, look]);
  return canvas;
}
