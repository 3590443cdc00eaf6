// What the server, or the file itself, says is there.

export interface Estimate {
  value?: number;
  low?: number;
  high?: number;
  null?: number;
  untrained?: number;
}

export interface MapEntry {
  array: string;
  quality?: Record<string, number>;
}

export interface CategoryColumn {
  key: string;
  title: string;
  role: string;
  kind: "category";
  array: string;
  categories: string[];
  colours: string[];
}

export interface NumberColumn {
  key: string;
  title: string;
  role: string;
  kind: "number";
  array: string;
  limits: [number, number];
}

export type Column = CategoryColumn | NumberColumn;

export interface Layer {
  name: string;
  kind: string;
  depth: number;
  shape: number[];
  receptive_field: number | null;
  separation: Record<string, Estimate>;
  complexity: Record<string, Estimate>;
  channels: number;
  neighbours: boolean;
  importance?: (number | null)[];
}

export interface TileGrid {
  count: number; // of sheets; without `per` there is one, and this is the number of its tiles
  per?: number; // tiles on a sheet
  width: number;
  height: number;
  across: number;
  colour: boolean;
}

export interface Sheets extends TileGrid {
  per: number;
  channels: string[];
  crop: [number, number];
}

export interface Gallery extends TileGrid {
  name: string;
  kind: string;
  layer: string;
  channels: number;
  targets: string[];
  indices?: number[]; // channels that the targets are
  size?: string; // of a picture, where it is not that of a crop
  likeness?: (number | null)[]; // of cells that images began as: pixel correlation of the image with it
  nearest?: (number | null)[]; // and with the nearest real cell
  frames?: string[]; // of a strip: what the pictures of one target are, in their order
}

export interface ChannelFacts {
  reached: number | null;
  natural: (number | null)[];
  dead: boolean;
  importance?: number | null;
  ablation?: number | null;
  members?: number[];
  best?: number[];
  edges?: number[];
  histogram?: number[][];
  auc?: Record<string, number | null>;
  correlations?: Record<string, Estimate>;
  trust?: Record<string, number | null>;
  failure?: string;
}

export interface Explained {
  layer: string;
  channels: number[];
  contributions: number[];
  predicted: string;
  probability: number;
}

export interface Gate {
  name: string;
  steps: unknown[];
  cells: number;
}

export interface Manifest {
  format: number;
  title: string;
  n: number;
  all_cells?: number;
  classes: string[];
  class_colours: string[];
  pixel_size: number | null;
  group: string | null;
  main_layer: string;
  maps: Record<string, Record<string, MapEntry>>;
  columns: Column[];
  layers: Layer[];
  sheets: Sheets | null;
  galleries: Gallery[];
  channels?: Record<string, Record<string, ChannelFacts>>;
  explained?: Record<string, Explained>;
  gates?: Gate[];
  decisions?: [number, string | null][];
  network?: boolean; // whether the network can be asked
  live?: boolean; // whether a server answers, which can save, order and ask
  followed?: boolean; // whether the program that serves the page selects cells, too
  full_crops?: boolean; // whether crops can be had larger than on the sheets
}
