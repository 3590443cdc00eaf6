// The worker that draws all maps. It holds the coordinates in its own drawing order.

import type { Camera } from "./camera";
import { Sheets, type Look } from "../data/sheets";
import type { Sheets as SheetsEntry } from "../data/manifest";
import {
  colourOwned, cut, densityCell, dotDiameter, drawDensity, drawDots, makePlane, pick, placeThumbnails, shuffledOrder,
  type Plane, type Points,
} from "./draw";
import { HIDDEN, SELECTED, type FromWorker, type Style, type ToWorker, type ViewState } from "./messages";

interface View {
  canvas: OffscreenCanvas;
  context: OffscreenCanvasRenderingContext2D;
  state: ViewState;
  plane: Plane;
  image: ImageData;
  pickable: boolean;
  points: number; // in the picture
  owned: number; // the arrangement that its owners were drawn from; 0: none
  from?: { points: Points; camera: Camera; started: number }; // while it passes to another map
}

const PASSAGE = 900; // ms from one depth to the next
const scope = self as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};

let order: Uint32Array = new Uint32Array(0);
let paint: Uint32Array = new Uint32Array(0); // in drawing order; 0: hidden
let buckets: Uint8Array = new Uint8Array(0); // in drawing order: of the table of colours
let raised: Uint8Array | null = null; // in drawing order; 1: selected
let state: Uint8Array = new Uint8Array(0); // in drawing order: hidden, selected
let arrangement = 1; // raised when cells are hidden, shown or selected: another cell may lie on top
let style: Style = { mode: "dots", thumbs: "auto", background: 0xffffffff, size: 1 };
let look: Look | null = null;
let sheets: Sheets | null = null;
let sheetsEntry: SheetsEntry | null = null;
const maps = new Map<string, Points>();
const views = new Map<number, View>();
const dirty = new Set<number>();
const asked = new Map<string, (bytes: Uint8Array<ArrayBuffer> | null) => void>();
let scheduled = false;

function say(message: FromWorker): void {
  scope.postMessage(message);
}

function redraw(id?: number): void {
  if (id === undefined) for (const key of views.keys()) dirty.add(key);
  else dirty.add(id);
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    const now = [...dirty];
    dirty.clear();
    for (const key of now) {
      const view = views.get(key);
      if (view) draw(key, view);
    }
  }, 0);
}

function draw(id: number, view: View): void {
  const started = performance.now();
  const target = maps.get(view.state.map);
  const { width, height, camera, ratio } = view.state;
  if (!target || paint.length !== order.length || width < 2 || height < 2) {
    view.context.fillStyle = css(style.background); // the map is still on its way
    view.context.fillRect(0, 0, view.canvas.width, view.canvas.height);
    return;
  }
  if (view.plane.width !== width || view.plane.height !== height) {
    view.canvas.width = width;
    view.canvas.height = height;
    view.plane = makePlane(width, height);
    view.image = new ImageData(width, height);
  }
  let points = target;
  let seen = camera;
  if (view.from) {
    const t = Math.min(1, (started - view.from.started) / PASSAGE);
    if (t >= 1) {
      view.from = undefined;
    } else {
      const eased = t * t * (3 - 2 * t);
      points = between(view.from.points, target, eased);
      seen = cameraBetween(view.from.camera, camera, eased);
      redraw(id);
    }
  }
  const moving = view.state.moving || view.from !== undefined;
  const diameter = Math.min(
    23,
    Math.max(1, Math.round(style.size * dotDiameter(order.length, width, height, seen.zoom, ratio))),
  );
  const frame = { camera: seen, diameter, background: style.background, owners: !moving };
  const drawn =
    style.mode === "density"
      ? drawDensity(view.plane, points, paint, frame, densityCell(order.length, width, height, seen.zoom, ratio))
      : drawDots(view.plane, points, paint, raised, frame);
  view.pickable = !moving || style.mode === "density";
  view.owned = !moving && style.mode === "dots" ? arrangement : 0;
  show(id, view, points, seen, drawn, started);
}

function show(id: number, view: View, points: Points, seen: Camera, drawn: number, started: number): void {
  cut(view.plane, new Uint32Array(view.image.data.buffer));
  view.context.putImageData(view.image, 0, 0);
  const thumbnails = style.mode === "dots" && style.thumbs !== "off" ? drawThumbnails(view, points, seen) : 0;
  view.points = drawn;
  say({ type: "drawn", id, milliseconds: performance.now() - started, points: drawn, thumbnails });
}

/** Other colours for what is in the picture already: a pass over pixels, not over points. */
function recolour(id: number, view: View): void {
  const points = maps.get(view.state.map);
  if (!points || view.from || view.owned !== arrangement || style.mode !== "dots") return redraw(id);
  const started = performance.now();
  colourOwned(view.plane, paint, style.background);
  show(id, view, points, view.state.camera, view.points, started);
}

function drawThumbnails(view: View, points: Points, camera: Camera): number {
  if (!sheets || !sheetsEntry) return 0;
  const always = style.thumbs === "always";
  const ratio = view.state.ratio;
  const { side, placed } = placeThumbnails(view.plane, points, paint, raised, camera, ratio, always);
  if (!placed.length) return 0;
  const { context, plane } = view;
  const wide = sheetsEntry.width >= sheetsEntry.height;
  const inner = side - 4 * ratio;
  const w = wide ? inner : (inner * sheetsEntry.width) / sheetsEntry.height;
  const h = wide ? (inner * sheetsEntry.height) / sheetsEntry.width : inner;
  const frame = Math.max(1, Math.round(1.5 * ratio));
  let shown = 0;
  for (const { place, left, top } of placed) {
    const cell = order[place];
    const tile = sheets.tile(Math.floor(cell / sheetsEntry.per), cell % sheetsEntry.per);
    if (!tile) continue;
    const x = Math.round(left + (side - w) / 2);
    const y = Math.round(top + (side - h) / 2);
    context.fillStyle = css(paint[place]);
    context.fillRect(x - frame, y - frame, w + 2 * frame, h + 2 * frame);
    context.imageSmoothingEnabled = w < sheetsEntry.width;
    context.drawImage(tile.from, tile.x, tile.y, sheetsEntry.width, sheetsEntry.height, x, y, w, h);
    if (!view.state.moving) own(plane, place + 1, x, y, w, h);
    shown++;
  }
  return shown;
}

/** A thumbnail is picked as its dot is. */
function own(plane: Plane, owner: number, x: number, y: number, w: number, h: number): void {
  const right = Math.min(plane.width, x + w);
  for (let j = Math.max(0, y); j < Math.min(plane.height, y + h); j++) {
    const row = (j + plane.margin) * plane.stride + plane.margin;
    plane.owners.fill(owner, row + Math.max(0, x), row + Math.floor(right));
  }
}

function between(from: Points, to: Points, t: number): Points {
  const n = to.x.length;
  const x = new Uint16Array(n);
  const y = new Uint16Array(n);
  for (let k = 0; k < n; k++) {
    x[k] = from.x[k] + (to.x[k] - from.x[k]) * t;
    y[k] = from.y[k] + (to.y[k] - from.y[k]) * t;
  }
  return { x, y };
}

function cameraBetween(from: Camera, to: Camera, t: number): Camera {
  return {
    x: from.x + (to.x - from.x) * t,
    y: from.y + (to.y - from.y) * t,
    zoom: from.zoom * (to.zoom / from.zoom) ** t,
  };
}

/** What is known of each cell, in the order in which cells are drawn. */
function inOrder(byCell: Uint8Array): Uint8Array {
  const out = new Uint8Array(order.length);
  for (let k = 0; k < out.length; k++) out[k] = byCell[order[k]];
  return out;
}

function css(colour: number): string {
  return `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
}

function bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    asked.set(name, (bytes) => (bytes ? resolve(bytes) : reject(new Error("no such picture"))));
    say({ type: "need", name });
  });
}

function setView(id: number, canvas: OffscreenCanvas | undefined, state: ViewState, animate: boolean): void {
  const known = views.get(id);
  if (canvas) {
    const context = canvas.getContext("2d", { alpha: false });
    if (!context) return;
    canvas.width = state.width;
    canvas.height = state.height;
    views.set(id, {
      canvas, context, state, pickable: false, points: 0, owned: 0,
      plane: makePlane(state.width, state.height),
      image: new ImageData(Math.max(1, state.width), Math.max(1, state.height)),
    });
  } else if (known) {
    const before = maps.get(known.state.map);
    if (animate && before && known.state.map !== state.map) {
      known.from = { points: before, camera: known.state.camera, started: performance.now() };
    }
    known.state = state;
    known.pickable = false;
    known.owned = 0;
  }
  redraw(id);
}

scope.onmessage = ({ data: message }) => {
  switch (message.type) {
    case "start":
      order = shuffledOrder(message.n);
      sheetsEntry = message.sheets;
      if (sheetsEntry) {
        const channels = sheetsEntry.colour ? 1 : sheetsEntry.channels.length;
        sheets = new Sheets("sheet", sheetsEntry, channels, bytesOf, () => redraw(), 64);
        if (look) sheets.restyle(look);
      }
      break;
    case "map": {
      const n = order.length;
      const x = new Uint16Array(n);
      const y = new Uint16Array(n);
      for (let k = 0; k < n; k++) {
        x[k] = message.coordinates[order[k]];
        y[k] = message.coordinates[n + order[k]];
      }
      maps.set(message.name, { x, y });
      for (const [id, view] of views) if (view.state.map === message.name) redraw(id);
      break;
    }
    case "view":
      setView(message.id, message.canvas, message.state, message.animate ?? false);
      break;
    case "close":
      views.delete(message.id);
      break;
    case "paint": {
      if (message.buckets) buckets = inOrder(message.buckets);
      if (message.state) {
        arrangement++;
        state = inOrder(message.state);
        raised = message.raised ? state.map((bits) => (bits & SELECTED ? 1 : 0)) : null;
      }
      const n = order.length;
      const { table } = message;
      if (paint.length !== n) paint = new Uint32Array(n);
      for (let k = 0; k < n; k++) {
        const bits = state[k];
        const faint = raised !== null && !(bits & SELECTED);
        paint[k] = bits & HIDDEN ? 0 : table[buckets[k] + (faint ? 256 : 0)];
      }
      for (const [id, view] of views) recolour(id, view);
      break;
    }
    case "style":
      style = message.style;
      for (const view of views.values()) view.owned = 0; // the ground or the dots are others
      redraw();
      break;
    case "look":
      look = message.look;
      sheets?.restyle(look);
      redraw();
      break;
    case "pick": {
      const view = views.get(message.id);
      const found = view && view.pickable ? pick(view.plane, message.x, message.y, message.radius) : 0;
      say({ type: "picked", ticket: message.ticket, cell: found ? order[found - 1] : -1 });
      break;
    }
    case "bytes":
      asked.get(message.name)?.(message.bytes);
      asked.delete(message.name);
      break;
  }
};
