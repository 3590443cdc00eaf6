// Numbers about a selection: counts, histograms, and how far a property differs from the rest.

import { STRIDE } from "./pacing";

export interface Effect {
  auc: number; // share of pairs in which a selected cell has more
  low: number; // of the 95 % interval
  high: number;
  inside: number; // median
  outside: number;
  n: number; // selected cells with a value
  m: number; // other cells with a value
}

export function histogram(
  values: ArrayLike<number>,
  low: number,
  high: number,
  bins: number,
  mask?: Uint8Array,
): Uint32Array {
  const counts = new Uint32Array(bins);
  const scale = bins / (high - low || 1);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if ((mask && !mask[i]) || !(value >= low && value <= high)) continue;
    counts[Math.min(bins - 1, Math.floor((value - low) * scale))]++;
  }
  return counts;
}

/** How many cells of each category there are, among those selected and among all that are shown. */
export function* countCategories(
  values: ArrayLike<number>,
  mask: Uint8Array,
  hidden: Uint8Array,
): Generator<void, { inside: Uint32Array; all: Uint32Array }> {
  const inside = new Uint32Array(256);
  const all = new Uint32Array(256);
  for (let start = 0; start < values.length; start += STRIDE) {
    for (let i = start; i < Math.min(values.length, start + STRIDE); i++) {
      if (hidden[i]) continue;
      all[values[i]]++;
      inside[values[i]] += mask[i];
    }
    yield;
  }
  return { inside, all };
}

/**
 * The area under the curve of a property that tells the selected cells from the rest, from 4,096
 * bins between its limits (ties count half), with the interval of Hanley & McNeil 1982. Cells
 * count as independent. Undefined where either side has no value.
 */
export function* effect(
  values: ArrayLike<number>,
  mask: Uint8Array,
  limits: readonly [number, number],
): Generator<void, Effect | undefined> {
  const bins = 4096;
  const [low, high] = limits;
  const scale = bins / (high - low || 1);
  const ins = new Uint32Array(bins);
  const outs = new Uint32Array(bins);
  let n = 0;
  let m = 0;
  for (let start = 0; start < values.length; start += STRIDE) {
    for (let i = start; i < Math.min(values.length, start + STRIDE); i++) {
      const value = values[i];
      if (!(value >= low && value <= high)) continue;
      const bin = Math.min(bins - 1, Math.floor((value - low) * scale));
      if (mask[i]) {
        ins[bin]++;
        n++;
      } else {
        outs[bin]++;
        m++;
      }
    }
    yield;
  }
  if (!n || !m) return undefined;
  let below = 0;
  let wins = 0;
  for (let bin = 0; bin < bins; bin++) {
    wins += ins[bin] * (below + outs[bin] / 2);
    below += outs[bin];
  }
  const auc = wins / (n * m);
  const q1 = auc / (2 - auc);
  const q2 = (2 * auc * auc) / (1 + auc);
  const variance =
    (auc * (1 - auc) + (n - 1) * (q1 - auc * auc) + (m - 1) * (q2 - auc * auc)) / (n * m);
  const half = 1.96 * Math.sqrt(Math.max(variance, 0));
  const value = (bin: number) => low + (bin + 0.5) / scale;
  return {
    auc,
    low: Math.max(0, auc - half),
    high: Math.min(1, auc + half),
    inside: value(medianBin(ins, n)),
    outside: value(medianBin(outs, m)),
    n,
    m,
  };
}

function medianBin(counts: Uint32Array, total: number): number {
  let seen = 0;
  for (let bin = 0; bin < counts.length; bin++) {
    seen += counts[bin];
    if (2 * seen >= total) return bin;
  }
  return counts.length - 1;
}

export function formatNumber(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100000 || size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export function formatCount(value: number): string {
  return value.toLocaleString("en-US");
}
