// The selected cells in an order, a page at a time: no more is sorted than is shown.

import { STRIDE } from "./pacing";

const BINS = 4096;

/** Selected cells at the places `from` to `to` of an order: the lowest key first, then by number. */
export function* pageOf(mask: Uint8Array, keys: Float32Array, from: number, to: number): Generator<void, number[]> {
  const n = mask.length;
  let low = Infinity;
  let high = -Infinity;
  for (let start = 0; start < n; start += STRIDE) {
    for (let i = start; i < Math.min(n, start + STRIDE); i++) {
      if (!mask[i] || !(Math.abs(keys[i]) < Infinity)) continue;
      if (keys[i] < low) low = keys[i];
      if (keys[i] > high) high = keys[i];
    }
    yield;
  }
  const scale = (BINS - 2) / (high - low || 1);
  const bin = (key: number) => (Math.abs(key) < Infinity ? Math.floor((key - low) * scale) : BINS - 1); // no key: last
  const counts = new Uint32Array(BINS);
  for (let start = 0; start < n; start += STRIDE) {
    for (let i = start; i < Math.min(n, start + STRIDE); i++) if (mask[i]) counts[bin(keys[i])]++;
    yield;
  }
  let before = 0; // cells in the bins before the first that is needed
  let first = 0;
  while (first < BINS && before + counts[first] <= from) before += counts[first++];
  let last = first;
  for (let seen = before; last < BINS && seen < to; last++) seen += counts[last];
  const found: number[] = [];
  for (let start = 0; start < n; start += STRIDE) {
    for (let i = start; i < Math.min(n, start + STRIDE); i++) {
      if (!mask[i]) continue;
      const at = bin(keys[i]);
      if (at >= first && at < last) found.push(i);
    }
    yield;
  }
  const key = (cell: number) => (Math.abs(keys[cell]) < Infinity ? keys[cell] : Number.MAX_VALUE);
  found.sort((a, b) => key(a) - key(b) || a - b);
  return found.slice(from - before, to - before);
}
