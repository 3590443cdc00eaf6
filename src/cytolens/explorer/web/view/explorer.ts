// The explorer behind the panels: the view and its history, the arrays, and what follows of them.

import { Arrays, type Source } from "../data/source";
import type { Column, Gallery, Manifest } from "../data/manifest";
import { Sheets } from "../data/sheets";
import { count, type Combine, type Shape, type Step } from "../data/shapes";
import { Raster } from "../raster/client";
import { applyFilter, bucketsOf, groundOf, stateOf, tableOf, type Theme, type Values } from "./colouring";
import { Following } from "./following";
import { Kept } from "./kept";
import { evaluate, goesOn } from "./masks";
import { firstView, fromHash, toHash, type View } from "./view";

const MOST_UNDONE = 100;

/** New cells that the server has placed. */
export interface Placed {
  names: string[];
  predicted: number[];
  confidence: number[] | null;  // null where the network gives no classes
  odd: boolean[];
  depths_odd: number[];
  places: Record<string, Record<string, [number, number][]>>;
  pictures: string[][];
  remarks: string[];
}

export class Explorer {
  readonly raster: Raster;
  readonly first: View;
  view: View;
  theme: Theme;
  hovered = -1;
  mask: Uint8Array; // 1: selected
  selected = 0;
  hidden: Uint8Array; // 1: filtered out
  shown: number; // cells that no filter leaves out
  buckets: Uint8Array;
  busy = ""; // what is being computed or read
  notice = ""; // the last thing said to the user
  drawTime = 0;
  names: string[] | null = null;
  readonly kept: Kept;
  placed: Placed | null = null;
  placing = ""; // how far new cells have come
  readonly sheets: Sheets | null;
  private readonly listeners = new Set<() => void>();
  private past: View[] = [];
  private future: View[] = [];
  private readonly activations = new Map<string, Column>();
  private readonly galleries = new Map<string, Sheets>();
  private following: Following | null = null;
  private done: { steps: Step[]; filters: View["filters"] } | null = null; // that mask and hidden show
  private painted: { colour: string; range: View["range"] } | null = null; // that the buckets show
  private work = 0;
  private told = false;

  constructor(
    readonly manifest: Manifest,
    readonly arrays: Arrays,
    columns: number,
  ) {
    this.raster = new Raster(arrays);
    this.kept = new Kept(this);
    this.first = firstView(manifest, columns);
    this.view = location.hash ? fromHash(location.hash, this.first, manifest) : this.first;
    this.theme = preferredTheme();
    this.mask = new Uint8Array(manifest.n);
    this.hidden = new Uint8Array(manifest.n);
    this.buckets = new Uint8Array(manifest.n);
    this.shown = manifest.n;
    const entry = manifest.sheets;
    this.sheets = entry
      ? new Sheets("sheet", entry, entry.colour ? 1 : entry.channels.length, (name) => arrays.bytes(name), () => this.tell())
      : null;
    this.raster.send({ type: "start", n: manifest.n, sheets: entry });
    this.raster.onDrawn = (drawn) => {
      this.drawTime = drawn.milliseconds;
      document.documentElement.dataset.drawn = String(performance.now());
      const plane = document.querySelector<HTMLElement>(`[data-view="${drawn.id}"]`);
      if (!plane) return;
      this.readNames();
      plane.dataset.points = String(drawn.points);
      plane.dataset.drawn = String(performance.now());
      plane.dataset.frames = String(Number(plane.dataset.frames ?? 0) + 1);
      plane.dataset.thumbnails = String(drawn.thumbnails);
    };
    this.sendStyle();
    this.restyle();
    this.update();
    if (manifest.followed) this.following = new Following(this);
  }

  private naming = false;
  /** Names are read once a map stands: of a million cells they are larger than a map. */
  private readNames(): void {
    if (this.naming) return;
    this.naming = true;
    void this.arrays.bytes("names").then((bytes) => {
      this.names = new TextDecoder().decode(bytes).split("\n");
      this.tell();
    }, () => (this.naming = false));
  }

  // Telling the panels ------------------------------------------------------------------------

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  tell(): void {
    if (this.told) return;
    this.told = true;
    queueMicrotask(() => {
      this.told = false;
      for (const listener of [...this.listeners]) listener();
    });
  }
  say(text: string): void {
    this.notice = text;
    this.tell();
  }

  // The view and its history ------------------------------------------------------------------

  /** Change the view. What only moves or hovers is not kept for undo. */
  set(change: Partial<View>, undoable = true): void {
    if (undoable) {
      this.past.push(this.view);
      if (this.past.length > MOST_UNDONE) this.past.shift();
      this.future = [];
    }
    this.move({ ...this.view, ...change });
  }
  get canUndo(): boolean {
    return this.past.length > 0;
  }
  undo(): void {
    const before = this.past.pop();
    if (!before) return this.say("There is nothing to undo.");
    this.future.push(this.view);
    this.move(before);
  }
  redo(): void {
    const after = this.future.pop();
    if (!after) return;
    this.past.push(this.view);
    this.move(after);
  }
  link(): string {
    return location.href.replace(/#.*$/, "") + toHash(this.view, this.first);
  }
  private move(next: View): void {
    const before = this.view;
    this.view = next;
    if (next.mode !== before.mode || next.thumbs !== before.thumbs || next.size !== before.size) this.sendStyle();
    if (next.look !== before.look) this.restyle();
    if (
      next.colour !== before.colour || next.range !== before.range || next.filters !== before.filters ||
      next.steps !== before.steps
    ) {
      this.update();
    }
    this.remember();
    this.tell();
  }
  private remembering = 0;
  private remember(): void {
    clearTimeout(this.remembering);
    this.remembering = window.setTimeout(() => {
      const hash = toHash(this.view, this.first);
      try {
        if (hash.length < 20_000) history.replaceState(null, "", hash || location.pathname + location.search);
      } catch {
        // a sandboxed frame, or a file: the link is still to be had from the button
      }
    }, 400);
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("cytolens-theme", theme);
    } catch {
      // no storage in this frame
    }
    this.sendStyle();
    this.update();
    this.tell();
  }

  // Columns -----------------------------------------------------------------------------------

  column(key: string): Column | undefined {
    return this.manifest.columns.find((column) => column.key === key) ?? this.activations.get(key);
  }
  /** The values of a column; undefined while they are on their way. */
  values(key: string): Values | undefined {
    const column = this.column(key);
    const name = column?.array ?? key;
    const bytes = this.arrays.ready(name);
    if (!bytes) {
      void this.load(key).then(() => this.tell(), () => undefined);
      return undefined;
    }
    return column?.kind === "category" ? bytes : new Float32Array(bytes.buffer);
  }
  /** Read a column, or the activations of a channel. */
  async load(key: string): Promise<Values> {
    const column = this.column(key);
    if (!column && !key.startsWith("activation/")) throw new Error(`there is no column ${key}`);
    const bytes = await this.arrays.bytes(column?.array ?? key);
    if (column?.kind === "category") return bytes;
    const numbers = new Float32Array(bytes.buffer);
    if (!column) {
      const [, layer, channel] = key.split("/");
      let low = Infinity;
      let high = -Infinity;
      for (let i = 0; i < numbers.length; i++) {
        if (numbers[i] < low) low = numbers[i];
        if (numbers[i] > high) high = numbers[i];
      }
      this.activations.set(key, {
        key, title: `${layer}, channel ${channel}`, role: "activation", kind: "number", array: key,
        limits: [low, high],
      });
    }
    return numbers;
  }

  // Selection and colours ---------------------------------------------------------------------

  select(shape: Shape, how: Combine = "replace"): void {
    const steps = how === "replace" ? [{ how, shape }] : [...this.view.steps, { how, shape }];
    this.set({ steps, tab: "selection" });
  }
  clear(): void {
    if (this.view.steps.length) this.set({ steps: [] });
  }
  invert(): void {
    const shape: Shape = { kind: "all" };
    // all cells, then without the selected ones, as a list of what is left
    const rest: number[] = [];
    for (let i = 0; i < this.mask.length; i++) if (!this.mask[i] && !this.hidden[i]) rest.push(i);
    this.set({ steps: rest.length === this.mask.length ? [{ how: "replace", shape }] : [{ how: "replace", shape: { kind: "cells", cells: rest } }] });
  }

  async coordinates(method: string, layer: string): Promise<[Uint16Array, Uint16Array]> {
    const bytes = await this.arrays.bytes(this.manifest.maps[method][layer].array);
    const n = this.manifest.n;
    return [new Uint16Array(bytes.buffer, 0, n), new Uint16Array(bytes.buffer, 2 * n, n)];
  }
  /** Where a cell lies on a map; undefined while the map is on its way. */
  place(layer: string, cell: number): [number, number] | undefined {
    const entry = this.manifest.maps[this.view.method]?.[layer];
    const bytes = entry && this.arrays.ready(entry.array);
    if (!bytes) return undefined;
    const all = new Uint16Array(bytes.buffer);
    return [all[cell], all[this.manifest.n + cell]];
  }

  /** Bring mask, filters and colours in step with the view, then have all maps drawn. */
  private update(): void {
    const work = ++this.work;
    void this.compute(work).catch((error: unknown) => {
      this.busy = "";
      this.say(error instanceof Error ? error.message : String(error));
    });
  }
  private async compute(work: number): Promise<void> {
    const { view } = this;
    const busy = window.setTimeout(() => {
      this.busy = "selecting …";
      this.tell();
    }, 150);
    try {
      const { done } = this;
      const same = done?.steps === view.steps && done.filters === view.filters;
      const known = done && !view.filters.length && !done.filters.length && goesOn(view.steps, done.steps);
      const mask = same ? this.mask : await evaluate(this, view.steps, known ? { steps: done.steps, mask: this.mask } : undefined);
      const hidden = same ? this.hidden : new Uint8Array(this.manifest.n);
      if (!same) for (const filter of view.filters) applyFilter(filter, await this.load(filter.column), hidden);
      const values = view.colour ? await this.load(view.colour) : undefined;
      if (work !== this.work) return;
      const column = this.column(view.colour);
      if (!same) {
        for (let i = 0; i < mask.length; i++) mask[i] &= 1 - hidden[i];
        this.mask = mask;
        this.selected = count(mask);
        this.hidden = hidden;
        this.shown = this.manifest.n - count(hidden);
        this.done = { steps: view.steps, filters: view.filters };
        this.following?.report();
      }
      const alike = this.painted?.colour === view.colour && this.painted.range === view.range;
      if (!alike) {
        this.buckets = bucketsOf(column, values, view.range, this.manifest.n);
        this.painted = { colour: view.colour, range: view.range };
      }
      const state = same ? null : stateOf(hidden, mask);
      const buckets = alike ? null : this.buckets.slice();
      const table = tableOf(column, this.theme);
      this.raster.send(
        { type: "paint", buckets, state, table, raised: this.selected > 0 },
        [table.buffer, ...(buckets ? [buckets.buffer] : []), ...(state ? [state.buffer] : [])],
      );
    } finally {
      clearTimeout(busy);
      if (work === this.work) this.busy = "";
      this.tell();
    }
  }
  /** Names of a crop at its full size, one per image channel that is shown. */
  cropNames(cell: number): string[] {
    const { sheets } = this.manifest;
    const channels = !sheets ? [] : sheets.colour ? [0] : this.view.look.shown.flatMap((on, i) => (on ? [i] : []));
    return channels.map((channel) => `crop/${cell}/${channel}`);
  }
  /** Whether the sheet with the cell's crop is there. */
  hasCrop(cell: number): boolean {
    return !this.manifest.sheets || (this.sheets?.has(Math.floor(cell / this.manifest.sheets.per)) ?? true);
  }
  /** Have a cell's crop on its way: one crop comes sooner than a sheet that is still to be made. */
  fetchCrop(cell: number): void {
    const { sheets, full_crops } = this.manifest;
    if (!sheets || this.hasCrop(cell)) return;
    if (full_crops) for (const name of this.cropNames(cell)) this.arrays.bytes(name).catch(() => undefined);
    else this.sheets?.sheet(Math.floor(cell / sheets.per));
  }

  // Pictures ----------------------------------------------------------------------------------

  gallery(name: string): { entry: Gallery; sheets: Sheets } | undefined {
    const entry = this.manifest.galleries.find((gallery) => gallery.name === name);
    if (!entry) return undefined;
    let sheets = this.galleries.get(name);
    if (!sheets) {
      const bytes = (asked: string) => this.arrays.bytes(`gallery/${name}/${asked.split("/").at(-1) ?? "0"}`);
      sheets = new Sheets(`gallery/${name}`, entry, entry.channels, bytes, () => this.tell());
      sheets.restyle(this.lookOf(entry.channels));
      this.galleries.set(name, sheets);
    }
    return { entry, sheets };
  }
  private lookOf(channels: number): View["look"] {
    const { look } = this.view;
    return channels === look.shown.length ? look : { ...look, shown: [true], low: 0, high: 1 };
  }
  private restyle(): void {
    this.sheets?.restyle(this.view.look);
    for (const [name, sheets] of this.galleries) {
      const entry = this.manifest.galleries.find((gallery) => gallery.name === name);
      sheets.restyle(this.lookOf(entry?.channels ?? 1));
    }
    this.raster.send({ type: "look", look: this.view.look });
  }
  private sendStyle(): void {
    const { mode, thumbs, size } = this.view;
    this.raster.send({ type: "style", style: { mode, thumbs, size, background: groundOf(this.theme) } });
  }

  name(cell: number): string {
    return this.names?.[cell] ?? `cell ${cell}`;
  }
}

export async function openExplorer(source: Source, columns: number): Promise<Explorer> {
  const manifest = await source.manifest();
  return new Explorer(manifest, new Arrays(source), columns);
}

function preferredTheme(): Theme {
  let kept: string | null = null;
  try {
    kept = localStorage.getItem("cytolens-theme");
  } catch {
    // no storage in this frame
  }
  const dark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  return dark ? "dark" : "light";
}
