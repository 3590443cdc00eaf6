// What is looked at, as one plain value: it can be undone, and put into a link.

import { usualLook, type Look } from "../data/sheets";
import type { Manifest } from "../data/manifest";
import type { Combine, Step } from "../data/shapes";
import type { Camera } from "../raster/camera";
import type { Mode, Thumbs } from "../raster/messages";
import type { Filter } from "./colouring";

export type Tool = "move" | "lasso" | "rectangle";
export type Tab = "cell" | "selection" | "network" | "new";

export interface View {
  method: string;
  layers: string[]; // of the maps, from left to right
  cameras: Record<string, Camera>; // by layer
  colour: string; // key of a column, or activation/<layer>/<channel>
  range: [number, number] | null; // of the colours
  filters: Filter[];
  steps: Step[]; // of the selection
  mode: Mode;
  thumbs: Thumbs;
  size: number;
  look: Look;
  tool: Tool;
  how: Combine; // how cells join those that are selected, where no key says it
  tab: Tab;
  cell: number; // the one in the panel; -1: none
  layer: string; // for neighbours and for the network
  channel: number; // of that layer; -1: none
}

/** Some depths, evenly from the first to the last, always with the main one. */
export function someLayers(all: string[], main: string, count: number): string[] {
  if (all.length <= count) return all;
  const chosen = new Set<number>();
  for (let i = 0; i < count; i++) chosen.add(Math.round((i * (all.length - 1)) / Math.max(1, count - 1)));
  const at = all.indexOf(main);
  if (at >= 0 && !chosen.has(at)) {
    const nearest = [...chosen].sort((a, b) => Math.abs(a - at) - Math.abs(b - at))[0];
    chosen.delete(nearest);
    chosen.add(at);
  }
  return [...chosen].sort((a, b) => a - b).map((i) => all[i]);
}

export function firstView(manifest: Manifest, count: number): View {
  const methods = Object.keys(manifest.maps);
  const method = methods.includes("tsne") ? "tsne" : (methods[0] ?? "");
  const all = Object.keys(manifest.maps[method] ?? {});
  const main = all.includes(manifest.main_layer) ? manifest.main_layer : (all.at(-1) ?? "");
  const inner = all.filter((name) => name !== "input" && name !== "logits");
  const pool = inner.length >= count ? inner : all;
  return {
    method,
    layers: count === 1 ? [main] : someLayers(pool, main, count),
    cameras: {},
    colour: manifest.columns.find((column) => column.key === "class")?.key ?? manifest.columns[0]?.key ?? "",
    range: null,
    filters: [],
    steps: [],
    mode: "dots",
    thumbs: "auto",
    size: 1,
    look: usualLook(manifest.sheets?.channels.length ?? 1),
    tool: "move",
    how: "replace",
    tab: "cell",
    cell: -1,
    layer: main,
    channel: -1,
  };
}

/** The view as the part of a link after #: only what differs from the first view. */
export function toHash(view: View, first: View): string {
  const changed: Record<string, unknown> = {};
  for (const key of Object.keys(view) as (keyof View)[]) {
    if (key !== "tool" && key !== "how" && JSON.stringify(view[key]) !== JSON.stringify(first[key])) changed[key] = view[key];
  }
  if (!Object.keys(changed).length) return "";
  const text = JSON.stringify(changed, (_, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value,
  );
  return `#${encodeURIComponent(text)}`;
}

/** A view from a link. Whatever does not fit this run is left as it is at first. */
export function fromHash(hash: string, first: View, manifest: Manifest): View {
  let given: Partial<Record<keyof View, unknown>>;
  try {
    given = JSON.parse(decodeURIComponent(hash.replace(/^#/, ""))) as typeof given;
  } catch {
    return first;
  }
  if (typeof given !== "object" || given === null) return first;
  const view: View = { ...first };
  const known = (name: unknown, list: string[]): name is string => typeof name === "string" && list.includes(name);
  const number = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
  if (known(given.method, Object.keys(manifest.maps))) view.method = given.method;
  const layers = Object.keys(manifest.maps[view.method] ?? {});
  if (Array.isArray(given.layers)) {
    const kept = given.layers.filter((name): name is string => known(name, layers)).slice(0, 9);
    if (kept.length) view.layers = kept;
  }
  if (typeof given.cameras === "object" && given.cameras !== null) {
    for (const [layer, camera] of Object.entries(given.cameras as Record<string, Camera>)) {
      if (known(layer, layers) && number(camera?.x) && number(camera.y) && number(camera.zoom)) {
        view.cameras = { ...view.cameras, [layer]: { x: camera.x, y: camera.y, zoom: Math.min(3000, Math.max(0.5, camera.zoom)) } };
      }
    }
  }
  if (typeof given.colour === "string") view.colour = given.colour;
  if (Array.isArray(given.range) && given.range.length === 2 && given.range.every(number)) {
    view.range = [given.range[0] as number, given.range[1] as number];
  }
  const columns = manifest.columns.map((column) => column.key);
  if (Array.isArray(given.filters)) {
    view.filters = (given.filters as Filter[]).filter(
      (filter) =>
        columns.includes(filter?.column) &&
        (filter.kind === "categories" ? Array.isArray(filter.off) : number(filter.low) && number(filter.high)),
    );
  }
  if (Array.isArray(given.steps)) view.steps = stepsFrom(given.steps, manifest);
  if (given.mode === "dots" || given.mode === "density") view.mode = given.mode;
  if (given.thumbs === "auto" || given.thumbs === "always" || given.thumbs === "off") view.thumbs = given.thumbs;
  if (number(given.size)) view.size = Math.min(4, Math.max(0.25, given.size));
  if (known(given.tab, ["cell", "selection", "network", "new"])) view.tab = given.tab as Tab;
  if (number(given.cell) && given.cell >= 0 && given.cell < manifest.n) view.cell = Math.floor(given.cell);
  if (known(given.layer, manifest.layers.map((layer) => layer.name))) view.layer = given.layer;
  const width = manifest.layers.find((layer) => layer.name === view.layer)?.channels ?? 0;
  if (number(given.channel) && given.channel < width) view.channel = Math.floor(given.channel);
  const look = given.look as Look | undefined;
  if (look && Array.isArray(look.shown) && look.shown.length === first.look.shown.length && number(look.low) && number(look.high)) {
    view.look = { ...first.look, shown: look.shown.map(Boolean), low: look.low, high: look.high };
  }
  return view;
}

/** The steps of a selection that came from outside, without those that make no sense here. */
export function stepsFrom(given: unknown[], manifest: Manifest): Step[] {
  const columns = manifest.columns.map((column) => column.key);
  const numbers = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length <= 2_000_000 && value.every((entry) => typeof entry === "number");
  return (given as Step[]).filter((step) => {
    const shape = step?.shape;
    if (!["replace", "add", "subtract", "intersect"].includes(step?.how) || !shape) return false;
    if (shape.kind === "polygon") return !!manifest.maps[shape.method]?.[shape.layer] && numbers(shape.points);
    if (shape.kind === "category") return columns.includes(shape.column) && numbers(shape.codes);
    if (shape.kind === "range") return columns.includes(shape.column) || shape.column.startsWith("activation/");
    if (shape.kind === "gate") return columns.includes(shape.x) && columns.includes(shape.y) && numbers(shape.points);
    if (shape.kind === "cells") return numbers(shape.cells);
    return shape.kind === "all";
  });
}
