// A selection is a list of steps, each a shape with the way it is combined; so it can be undone,
// saved as a gate and put into a link. A mask has one byte per cell, 1 where it is selected.

export type Combine = "replace" | "add" | "subtract" | "intersect";

export type Shape =
  | { kind: "polygon"; method: string; layer: string; points: number[] } // x, y, x, y …, 0…65535
  | { kind: "category"; column: string; codes: number[] }
  | { kind: "range"; column: string; low: number; high: number }
  | { kind: "gate"; x: string; y: string; points: number[] } // polygon in two number columns
  | { kind: "cells"; cells: number[] }
  | { kind: "all" };

export interface Step {
  how: Combine;
  shape: Shape;
}

/** Which points lie inside a polygon (even-odd); edges are looked up by bands of y. */
export function insidePolygon(
  xs: ArrayLike<number>,
  ys: ArrayLike<number>,
  polygon: readonly number[],
  out: Uint8Array,
): void {
  const corners = polygon.length >> 1;
  out.fill(0);
  if (corners < 3) return;
  let left = Infinity;
  let right = -Infinity;
  let bottom = Infinity;
  let top = -Infinity;
  for (let i = 0; i < corners; i++) {
    left = Math.min(left, polygon[2 * i]);
    right = Math.max(right, polygon[2 * i]);
    bottom = Math.min(bottom, polygon[2 * i + 1]);
    top = Math.max(top, polygon[2 * i + 1]);
  }
  const bands = 256;
  const step = (top - bottom) / bands || 1;
  const edges: number[][] = Array.from({ length: bands + 1 }, () => []);
  for (let i = 0, j = corners - 1; i < corners; j = i++) {
    const low = Math.min(polygon[2 * i + 1], polygon[2 * j + 1]);
    const high = Math.max(polygon[2 * i + 1], polygon[2 * j + 1]);
    const last = Math.floor((high - bottom) / step);
    for (let band = Math.floor((low - bottom) / step); band <= last; band++) edges[band].push(i, j);
  }
  for (let k = 0; k < out.length; k++) {
    const x = xs[k];
    const y = ys[k];
    if (!(x >= left && x <= right && y >= bottom && y <= top)) continue;
    const near = edges[Math.floor((y - bottom) / step)];
    let inside = 0;
    for (let e = 0; e < near.length; e += 2) {
      const xi = polygon[2 * near[e]];
      const yi = polygon[2 * near[e] + 1];
      const xj = polygon[2 * near[e + 1]];
      const yj = polygon[2 * near[e + 1] + 1];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside ^= 1;
    }
    out[k] = inside;
  }
}

export function combine(how: Combine, mask: Uint8Array, shape: Uint8Array): void {
  if (how === "replace") mask.set(shape);
  else if (how === "add") for (let i = 0; i < mask.length; i++) mask[i] |= shape[i];
  else if (how === "subtract") for (let i = 0; i < mask.length; i++) mask[i] &= 1 - shape[i];
  else for (let i = 0; i < mask.length; i++) mask[i] &= shape[i];
}

export function count(mask: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < mask.length; i++) sum += mask[i];
  return sum;
}

export function members(mask: Uint8Array, most = Infinity): number[] {
  const found: number[] = [];
  for (let i = 0; i < mask.length && found.length < most; i++) if (mask[i]) found.push(i);
  return found;
}
