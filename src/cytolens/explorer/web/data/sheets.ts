// Crops from sheets: a tile of each image channel, with contrast, as one picture.

import type { TileGrid } from "./manifest";

/** How image channels are shown: one of them grey, or several as a composite. */
export interface Look {
  shown: boolean[]; // by image channel
  tints: string[]; // of a composite
  low: number; // 0…1, drawn black
  high: number; // 0…1, drawn white
}

export const TINTS = ["#ffffff", "#00b7ff", "#ff7a00", "#00d68f", "#ff5fd2", "#ffe14d"];

export function usualLook(channels: number): Look {
  return {
    shown: Array.from({ length: channels }, (_, i) => i === 0),
    tints: Array.from({ length: channels }, (_, i) => TINTS[i % TINTS.length]),
    low: 0,
    high: 1,
  };
}

export function rgbOf(hex: string): [number, number, number] {
  const value = parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** Where tile `place` lies on its sheet: [left, top]. */
export function tileAt(grid: TileGrid, place: number): [number, number] {
  return [(place % grid.across) * grid.width, Math.floor(place / grid.across) * grid.height];
}

/**
 * Add the channels up, in place: `planes` are RGBA pixels, one array per shown image channel.
 * A single channel is grey; several are tinted and added.
 */
export function compose(
  planes: Uint8ClampedArray[],
  tints: [number, number, number][],
  low: number,
  high: number,
  colour: boolean,
): Uint8ClampedArray {
  const ramp = new Float32Array(256);
  const width = Math.max(high - low, 1 / 255);
  for (let i = 0; i < 256; i++) ramp[i] = Math.min(1, Math.max(0, (i / 255 - low) / width));
  const first = planes[0];
  const out = new Uint8ClampedArray(first.length);
  for (let at = 0; at < out.length; at += 4) {
    let r = 0;
    let g = 0;
    let b = 0;
    if (colour) {
      r = 255 * ramp[first[at]];
      g = 255 * ramp[first[at + 1]];
      b = 255 * ramp[first[at + 2]];
    } else if (planes.length === 1) {
      r = g = b = 255 * ramp[first[at]];
    } else {
      for (let c = 0; c < planes.length; c++) {
        const value = ramp[planes[c][at]];
        r += value * tints[c][0];
        g += value * tints[c][1];
        b += value * tints[c][2];
      }
    }
    out[at] = r;
    out[at + 1] = g;
    out[at + 2] = b;
    out[at + 3] = 255;
  }
  return out;
}

const RETRY = 10_000; // ms
const TILES = 3000; // kept of sheets that are forgotten, so that what is in sight is never asked for again
export const SHEETS = 24; // kept at once
const ASKED = 3; // at once, as a browser keeps few connections, and a question must not wait for crops

/** A picture, and where in it a tile begins. */
export interface Tile {
  from: OffscreenCanvas;
  x: number;
  y: number;
}

type Bytes = (name: string) => Promise<Uint8Array<ArrayBuffer>>;

/** Sheets of one set of pictures, ready to be drawn; the least used are forgotten. */
export class Sheets {
  private readonly planes = new Map<string, ImageBitmap>();
  private readonly made = new Map<number, OffscreenCanvas>();
  private readonly cut = new Map<string, OffscreenCanvas>(); // tiles, where there are more sheets than are kept
  private readonly waiting = new Set<number>();
  private readonly failed = new Map<number, number>(); // until when it is not asked for again
  private look: Look;

  constructor(
    private readonly prefix: string,
    readonly grid: TileGrid,
    private readonly channels: number,
    private readonly bytes: Bytes,
    private readonly ready: () => void,
    private readonly most = SHEETS,
  ) {
    this.look = usualLook(channels);
  }

  restyle(look: Look): void {
    this.look = look;
    this.made.clear();
    this.cut.clear();
  }

  /** The tile `place` of a sheet, or undefined while the sheet is on its way. */
  tile(k: number, place: number): Tile | undefined {
    const name = `${k}/${place}`;
    const kept = this.cut.get(name);
    if (kept) return { from: kept, x: 0, y: 0 };
    const sheet = this.sheet(k);
    if (!sheet) return undefined;
    const [x, y] = tileAt(this.grid, place);
    if (this.grid.per === undefined || this.grid.count <= this.most) return { from: sheet, x, y };
    const { width, height } = this.grid;
    const own = new OffscreenCanvas(width, height);
    own.getContext("2d")?.drawImage(sheet, x, y, width, height, 0, 0, width, height);
    this.cut.set(name, own);
    forgetOldest(this.cut, TILES);
    return { from: own, x: 0, y: 0 };
  }

  /** Whether the sheet is there, without asking for it. */
  has(k: number): boolean {
    return this.made.has(k);
  }

  /** The sheet, or undefined while it is on its way: `ready` is called then. */
  sheet(k: number): OffscreenCanvas | undefined {
    const found = this.made.get(k);
    if (found) {
      this.made.delete(k);
      this.made.set(k, found); // the last used comes last
      return found;
    }
    if (!this.waiting.has(k) && this.waiting.size < ASKED && performance.now() >= (this.failed.get(k) ?? 0)) {
      this.waiting.add(k);
      void this.make(k).finally(() => {
        this.waiting.delete(k);
        this.ready();
      });
    }
    return undefined;
  }

  private shown(): number[] {
    if (this.grid.colour) return [0];
    const chosen = this.look.shown.flatMap((on, i) => (on && i < this.channels ? [i] : []));
    return chosen.length ? chosen : [0];
  }

  private async make(k: number): Promise<void> {
    const look = this.look;
    const shown = this.shown();
    let planes: ImageBitmap[];
    try {
      planes = await Promise.all(shown.map((channel) => this.plane(k, channel)));
    } catch {
      this.failed.set(k, performance.now() + RETRY); // until then its tiles stay dots
      return;
    }
    const { width, height } = planes[0];
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) return;
    if (planes.length === 1 && look.low <= 0 && look.high >= 1) {
      context.drawImage(planes[0], 0, 0);
    } else {
      const pixels = planes.map((plane) => {
        context.drawImage(plane, 0, 0);
        return context.getImageData(0, 0, width, height).data;
      });
      const tints = shown.map((channel) => rgbOf(look.tints[channel]));
      const out = compose(pixels, tints, look.low, look.high, this.grid.colour);
      context.putImageData(new ImageData(out as Uint8ClampedArray<ArrayBuffer>, width, height), 0, 0);
    }
    if (look !== this.look) return;
    this.made.set(k, canvas);
    forgetOldest(this.made, this.most);
  }

  private async plane(k: number, channel: number): Promise<ImageBitmap> {
    const name = `${this.prefix}/${k}/${channel}`;
    const kept = this.planes.get(name);
    if (kept) return kept;
    const bitmap = await createImageBitmap(new Blob([await this.bytes(name)], { type: "image/webp" }));
    this.planes.set(name, bitmap);
    forgetOldest(this.planes, this.most * 2);
    return bitmap;
  }
}

function forgetOldest<K, V>(kept: Map<K, V>, most: number): void {
  for (const key of kept.keys()) {
    if (kept.size <= most) return;
    kept.delete(key);
  }
}
