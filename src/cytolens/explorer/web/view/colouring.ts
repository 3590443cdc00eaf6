// From columns to the colour of every cell: a bucket 0…255 per cell, and a table of colours.

import { rgbOf } from "../data/sheets";
import type { CategoryColumn, Column } from "../data/manifest";
import { HIDDEN, SELECTED } from "../raster/messages";

export const MISSING = 255; // bucket of cells without a value
const LAST = 250; // bucket of the highest number

export type Theme = "light" | "dark";
export type Values = Uint8Array | Float32Array;

export const GROUND: Record<Theme, string> = { light: "#ffffff", dark: "#16181d" };
const GREY: Record<Theme, string> = { light: "#c4c8ce", dark: "#4d525b" };

// Stops of viridis (Smith & van der Walt 2015): even steps in lightness, readable without colour
// vision.
const VIRIDIS = [
  "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b",
  "#fde725",
];

export function rampColour(t: number): [number, number, number] {
  const place = Math.min(0.99999, Math.max(0, t)) * (VIRIDIS.length - 1);
  const at = Math.floor(place);
  return mix(rgbOf(VIRIDIS[at + 1]), rgbOf(VIRIDIS[at]), place - at);
}

export function rampCss(): string {
  return `linear-gradient(to right, ${VIRIDIS.join(",")})`;
}

function mix(a: number[], b: number[], share: number): [number, number, number] {
  return [0, 1, 2].map((c) => Math.round(a[c] * share + b[c] * (1 - share))) as [number, number, number];
}

function abgr([r, g, b]: number[]): number {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

export function groundOf(theme: Theme): number {
  return abgr(rgbOf(GROUND[theme]));
}

/** A colour that is seen on the ground of this theme. */
export function seen(hex: string, theme: Theme): string {
  const rgb = rgbOf(hex);
  const light = (0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]) / 255;
  if (theme === "dark" && light < 0.32) return css(mix([255, 255, 255], rgb, 0.38));
  return hex;
}

function css(rgb: number[]): string {
  return `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** 512 colours: of the buckets, then the same faint, for cells outside of a selection. */
export function tableOf(column: Column | undefined, theme: Theme): Uint32Array {
  const table = new Uint32Array(512);
  const grey = rgbOf(GREY[theme]);
  for (let bucket = 0; bucket < 256; bucket++) {
    let rgb: number[] = grey;
    if (column?.kind === "category" && bucket < column.colours.length) {
      rgb = rgbOf(seen(column.colours[bucket], theme));
    } else if (column?.kind === "number" && bucket <= LAST) {
      rgb = rampColour(bucket / LAST);
    }
    table[bucket] = abgr(rgb);
    table[256 + bucket] = abgr(mix(rgb, grey, 0.16));
  }
  return table;
}

export function bucketsOf(
  column: Column | undefined,
  values: Values | undefined,
  range: readonly [number, number] | null,
  n: number,
): Uint8Array {
  const buckets = new Uint8Array(n);
  if (!column || !values) return buckets.fill(MISSING);
  if (column.kind === "category") {
    buckets.set(values);
    return buckets;
  }
  const [low, high] = range ?? column.limits;
  const scale = LAST / (high - low || 1);
  for (let i = 0; i < n; i++) {
    const value = values[i];
    if (value !== value) buckets[i] = MISSING;
    else buckets[i] = value <= low ? 0 : value >= high ? LAST : (value - low) * scale;
  }
  return buckets;
}

export type Filter =
  | { kind: "categories"; column: string; off: number[] }
  | { kind: "range"; column: string; low: number; high: number };

/** Mark the cells that a filter leaves out. */
export function applyFilter(filter: Filter, values: Values, hidden: Uint8Array): void {
  if (filter.kind === "categories") {
    const off = new Uint8Array(256);
    for (const code of filter.off) off[code] = 1;
    for (let i = 0; i < hidden.length; i++) hidden[i] |= off[values[i]];
  } else {
    const { low, high } = filter;
    for (let i = 0; i < hidden.length; i++) {
      if (!(values[i] >= low && values[i] <= high)) hidden[i] = 1;
    }
  }
}

export function stateOf(hidden: Uint8Array, mask: Uint8Array): Uint8Array {
  const state = new Uint8Array(hidden.length);
  for (let i = 0; i < state.length; i++) state[i] = hidden[i] * HIDDEN + mask[i] * SELECTED;
  return state;
}

export function colourOfCell(column: Column | undefined, bucket: number, theme: Theme): string {
  if (column?.kind === "category") {
    return bucket < column.colours.length ? seen(column.colours[bucket], theme) : GREY[theme];
  }
  return column && bucket <= LAST ? css(rampColour(bucket / LAST)) : GREY[theme];
}

export function nameOf(column: CategoryColumn, code: number): string {
  return column.categories[code] ?? "none";
}
