// The raster: dots written into pixels, with the cell of each pixel, so that picking is a look-up.
// Everything here is plain arithmetic on typed arrays, without canvas or DOM.

import { scaleOf, type Camera } from "./camera";

export interface Points {
  x: Uint16Array; // in drawing order
  y: Uint16Array;
}

/** A picture with a margin, so that dots at the edge need no test. */
export interface Plane {
  width: number; // without the margin
  height: number;
  margin: number;
  stride: number;
  pixels: Uint32Array; // ABGR
  owners: Int32Array; // place in drawing order + 1; 0: nothing
}

export const MARGIN = 24; // px; no dot is as wide as this

export function makePlane(width: number, height: number): Plane {
  const stride = width + 2 * MARGIN;
  const size = stride * (height + 2 * MARGIN);
  return {
    width, height, margin: MARGIN, stride,
    pixels: new Uint32Array(size), owners: new Int32Array(size),
  };
}

/** A fixed random order of n cells, so that no class lies on top because it came last. */
export function shuffledOrder(n: number, seed = 1): Uint32Array {
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  let state = seed >>> 0 || 1;
  for (let i = n - 1; i > 0; i--) {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    const j = state % (i + 1);
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}

/** Offsets of the pixels of a round dot, in a picture of this stride. */
export function dotOffsets(diameter: number, stride: number): Int32Array {
  const offsets: number[] = [];
  const radius = diameter / 2;
  const half = (diameter - 1) / 2;
  for (let j = 0; j < diameter; j++) {
    for (let i = 0; i < diameter; i++) {
      const dx = i - half;
      const dy = j - half;
      if (dx * dx + dy * dy <= radius * radius * 1.05 || diameter < 3) {
        offsets.push((j - Math.floor(half)) * stride + i - Math.floor(half));
      }
    }
  }
  return Int32Array.from(offsets);
}

/** Diameter in px that suits so many points on so large a picture. */
export function dotDiameter(n: number, width: number, height: number, zoom: number, ratio: number): number {
  const spacing = Math.sqrt((width * height) / Math.max(n, 1));
  const fit = spacing * 0.36 * Math.min(Math.sqrt(zoom), 4);
  const least = n <= 200_000 ? 2 * ratio : 1;
  return Math.round(Math.min(MARGIN - 1, 11 * ratio, Math.max(least, fit)));
}

export interface Frame {
  camera: Camera;
  diameter: number;
  background: number; // ABGR
  owners: boolean; // whether picking is wanted; not while the map moves
}

/**
 * Draw all points whose paint is not 0. Those with a bit in `raised` are drawn last, on top.
 * Gives the number of points in the picture.
 */
export function drawDots(
  plane: Plane,
  points: Points,
  paint: Uint32Array,
  raised: Uint8Array | null,
  frame: Frame,
): number {
  const { width, height, margin, stride, pixels, owners } = plane;
  pixels.fill(frame.background);
  if (frame.owners) owners.fill(0);
  const scale = scaleOf(frame.camera, width, height);
  const left = width / 2 - frame.camera.x * scale + margin;
  const top = height / 2 + frame.camera.y * scale + margin;
  const reach = Math.ceil(frame.diameter / 2);
  const low = margin - reach;
  const right = width + margin + reach;
  const bottom = height + margin + reach;
  const offsets = dotOffsets(frame.diameter, stride);
  const single = offsets.length === 1;
  const { x, y } = points;
  const n = x.length;
  const keep = frame.owners;
  let drawn = 0;
  for (let pass = 0; pass < (raised ? 2 : 1); pass++) {
    for (let k = 0; k < n; k++) {
      const colour = paint[k];
      if (colour === 0 || (raised !== null && raised[k] !== pass)) continue;
      const px = x[k] * scale + left;
      const py = top - y[k] * scale;
      if (px < low || py < low || px >= right || py >= bottom) continue;
      drawn++;
      const at = (py | 0) * stride + (px | 0);
      if (single) {
        pixels[at] = colour;
        if (keep) owners[at] = k + 1;
      } else {
        for (let o = 0; o < offsets.length; o++) {
          const place = at + offsets[o];
          pixels[place] = colour;
          if (keep) owners[place] = k + 1;
        }
      }
    }
  }
  return drawn;
}

/** The same picture in other colours: each pixel has that of the dot that owns it. */
export function colourOwned(plane: Plane, paint: Uint32Array, background: number): void {
  const { pixels, owners } = plane;
  for (let at = 0; at < pixels.length; at++) {
    const owner = owners[at];
    pixels[at] = owner ? paint[owner - 1] : background;
  }
}

/** Squares of the density, px: about as wide as the space that a point has. */
export function densityCell(n: number, width: number, height: number, zoom: number, ratio: number): number {
  const spacing = Math.sqrt((width * height) / Math.max(n, 1)) * Math.min(Math.sqrt(zoom), 4);
  return Math.round(Math.min(10 * ratio, Math.max(2, 0.5 * spacing)));
}

/** Density: the mean colour of the points in a square and around it, fainter where few are. */
export function drawDensity(
  plane: Plane,
  points: Points,
  paint: Uint32Array,
  frame: Frame,
  cell: number,
): number {
  const { width, height, margin, stride, pixels, owners } = plane;
  const across = Math.ceil(width / cell) + 2;
  const down = Math.ceil(height / cell) + 2;
  const sums = new Float32Array(across * down * 4); // number, red, green, blue
  const scale = scaleOf(frame.camera, width, height);
  const left = width / 2 - frame.camera.x * scale;
  const top = height / 2 + frame.camera.y * scale;
  const { x, y } = points;
  let drawn = 0;
  owners.fill(0);
  for (let k = 0; k < x.length; k++) {
    const colour = paint[k];
    if (colour === 0) continue;
    const px = x[k] * scale + left;
    const py = top - y[k] * scale;
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    drawn++;
    const at = 4 * (Math.floor(py / cell) * across + Math.floor(px / cell));
    sums[at]++;
    sums[at + 1] += colour & 255;
    sums[at + 2] += (colour >> 8) & 255;
    sums[at + 3] += (colour >> 16) & 255;
    owners[((py | 0) + margin) * stride + (px | 0) + margin] = k + 1;
  }
  smooth(sums, across, down);
  let most = 0;
  for (let at = 0; at < sums.length; at += 4) most = Math.max(most, sums[at]);
  const base = [frame.background & 255, (frame.background >> 8) & 255, (frame.background >> 16) & 255];
  const unit = 8 / (most || 1); // so that one cell among few is seen, too
  const scaleLog = 1 / Math.log1p(8);
  const colours = new Uint32Array(across * down);
  for (let place = 0; place < colours.length; place++) {
    const number = sums[4 * place];
    if (number < most / 1000) {
      colours[place] = frame.background;
      continue;
    }
    const weight = Math.min(1, 0.06 + 0.94 * Math.log1p(number * unit) * scaleLog);
    let mixed = 0xff000000;
    for (let c = 0; c < 3; c++) {
      const value = (sums[4 * place + 1 + c] / number) * weight + base[c] * (1 - weight);
      mixed |= (value & 255) << (8 * c);
    }
    colours[place] = mixed >>> 0;
  }
  for (let j = 0; j < height; j++) {
    const row = Math.floor(j / cell) * across;
    const start = (j + margin) * stride + margin;
    for (let i = 0; i < width; i++) pixels[start + i] = colours[row + Math.floor(i / cell)];
  }
  return drawn;
}

/** Blur sums by weights 1, 2, 1 along both axes. */
function smooth(sums: Float32Array, across: number, down: number): void {
  for (const [step, count, other, lines] of [[4, across, 4 * across, down], [4 * across, down, 4, across]]) {
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < 4; c++) {
        let at = line * other + c;
        let before = 0;
        for (let i = 0; i < count; i++, at += step) {
          const here = sums[at];
          const after = i + 1 < count ? sums[at + step] : 0;
          sums[at] = (before + 2 * here + after) / 4;
          before = here;
        }
      }
    }
  }
}

/** The place + 1 of the dot nearest to a pixel, at most `radius` px away; 0 where there is none. */
export function pick(plane: Plane, px: number, py: number, radius: number): number {
  let best = 0;
  let nearest = radius * radius + 1;
  const x = Math.round(px);
  const y = Math.round(py);
  for (let j = Math.max(0, y - radius); j <= Math.min(plane.height - 1, y + radius); j++) {
    const row = (j + plane.margin) * plane.stride + plane.margin;
    for (let i = Math.max(0, x - radius); i <= Math.min(plane.width - 1, x + radius); i++) {
      const owner = plane.owners[row + i];
      if (!owner) continue;
      const distance = (i - x) * (i - x) + (j - y) * (j - y);
      if (distance < nearest) {
        nearest = distance;
        best = owner;
      }
    }
  }
  return best;
}

/** The picture without its margin, as RGBA bytes. */
export function cut(plane: Plane, out: Uint32Array): void {
  for (let j = 0; j < plane.height; j++) {
    const start = (j + plane.margin) * plane.stride + plane.margin;
    out.set(plane.pixels.subarray(start, start + plane.width), j * plane.width);
  }
}

export interface Placed {
  place: number; // in drawing order
  left: number;
  top: number;
}

export const SIDES = [20, 28, 40, 56, 80, 112, 160]; // px of thumbnails

/**
 * Which cells are shown as thumbnails, and how large: the largest size at which those in view
 * overlap little; none while there are too many, unless `always`. No two share a square.
 */
export function placeThumbnails(
  plane: Plane,
  points: Points,
  paint: Uint32Array,
  raised: Uint8Array | null,
  camera: Camera,
  ratio: number,
  always: boolean,
): { side: number; placed: Placed[] } {
  const { width, height } = plane;
  const scale = scaleOf(camera, width, height);
  const left = width / 2 - camera.x * scale;
  const top = height / 2 + camera.y * scale;
  const { x, y } = points;
  const area = width * height;
  const most = Math.floor((2.2 * area) / (SIDES[0] * ratio) ** 2);
  const inside: number[] = [];
  for (let k = 0; k < x.length; k++) {
    if (paint[k] === 0) continue;
    const px = x[k] * scale + left;
    const py = top - y[k] * scale;
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    inside.push(k);
    if (inside.length > most && !always) return { side: 0, placed: [] };
  }
  let side = SIDES[0] * ratio;
  for (const wider of SIDES) {
    if (inside.length * (wider * ratio) ** 2 <= 0.8 * area) side = wider * ratio;
  }
  const across = Math.ceil(width / side) + 1;
  const taken = new Uint8Array(across * (Math.ceil(height / side) + 1));
  const placed: Placed[] = [];
  for (let pass = raised ? 1 : 0; pass >= 0; pass--) {
    for (const k of inside) {
      if (raised && raised[k] !== pass) continue;
      const px = x[k] * scale + left;
      const py = top - y[k] * scale;
      const square = Math.floor(py / side) * across + Math.floor(px / side);
      if (taken[square]) continue;
      taken[square] = 1;
      placed.push({ place: k, left: Math.round(px - side / 2), top: Math.round(py - side / 2) });
    }
  }
  return { side, placed };
}
