// Which cells a list of steps selects, as a mask with one byte per cell.

import { combine, insidePolygon, type Shape, type Step } from "../data/shapes";
import type { Explorer } from "./explorer";

/** The cells that the steps select; `known`: the mask of the first of them, which are not made again. */
export async function evaluate(explorer: Explorer, steps: Step[], known?: { steps: Step[]; mask: Uint8Array }): Promise<Uint8Array> {
  const mask = known ? known.mask.slice() : new Uint8Array(explorer.manifest.n);
  for (const step of steps.slice(known?.steps.length ?? 0)) combine(step.how, mask, await inside(explorer, step.shape));
  return mask;
}

/** Whether the first of the steps are these, and more follow. */
export function goesOn(steps: Step[], from: Step[]): boolean {
  return from.length > 0 && steps.length > from.length && from.every((step, i) => step === steps[i]);
}

async function inside(explorer: Explorer, shape: Shape): Promise<Uint8Array> {
  const out = new Uint8Array(explorer.manifest.n);
  if (shape.kind === "all") out.fill(1);
  else if (shape.kind === "cells") for (const cell of shape.cells) out[cell] = 1;
  else if (shape.kind === "polygon") {
    const [x, y] = await explorer.coordinates(shape.method, shape.layer);
    insidePolygon(x, y, shape.points, out);
  } else if (shape.kind === "gate") {
    insidePolygon(await explorer.load(shape.x), await explorer.load(shape.y), shape.points, out);
  } else if (shape.kind === "category") {
    const values = await explorer.load(shape.column);
    const chosen = new Uint8Array(256);
    for (const code of shape.codes) chosen[code] = 1;
    for (let i = 0; i < out.length; i++) out[i] = chosen[values[i]];
  } else {
    const values = await explorer.load(shape.column);
    for (let i = 0; i < out.length; i++) out[i] = values[i] >= shape.low && values[i] <= shape.high ? 1 : 0;
  }
  return out;
}
