// What the page and the raster's worker say to each other.

import type { Look } from "../data/sheets";
import type { Sheets as SheetsEntry } from "../data/manifest";
import type { Camera } from "./camera";

export type Mode = "dots" | "density";
export type Thumbs = "auto" | "always" | "off";

export interface ViewState {
  map: string; // name of the array
  camera: Camera;
  width: number; // device pixels
  height: number;
  ratio: number; // device pixels per CSS pixel
  moving: boolean; // no picking needed yet
}

export interface Style {
  mode: Mode;
  thumbs: Thumbs;
  background: number; // ABGR
  size: number; // factor of the dots' diameter
}

// In "paint", no buckets and no state mean that they are as before.
export type ToWorker =
  | { type: "start"; n: number; sheets: SheetsEntry | null }
  | { type: "map"; name: string; coordinates: Uint16Array }
  | { type: "view"; id: number; canvas?: OffscreenCanvas; state: ViewState; animate?: boolean }
  | { type: "close"; id: number }
  | { type: "paint"; buckets: Uint8Array | null; state: Uint8Array | null; table: Uint32Array; raised: boolean }
  | { type: "style"; style: Style }
  | { type: "look"; look: Look }
  | { type: "pick"; id: number; x: number; y: number; radius: number; ticket: number }
  | { type: "bytes"; name: string; bytes: Uint8Array<ArrayBuffer> | null };

export type FromWorker =
  | { type: "picked"; ticket: number; cell: number }
  | { type: "need"; name: string }
  | { type: "drawn"; id: number; milliseconds: number; points: number; thumbnails: number };

export const HIDDEN = 1; // bits of a cell's state
export const SELECTED = 2;
