import assert from "node:assert/strict";
import { test } from "node:test";
import { combine, count, insidePolygon, members } from "../data/shapes";

test("points inside a polygon with a hole are those of even-odd counting", () => {
  const n = 20_000;
  const x = Uint16Array.from({ length: n }, (_, i) => (i * 7919) % 1000);
  const y = Uint16Array.from({ length: n }, (_, i) => (i * 104729) % 997);
  const star = [500, 50, 620, 380, 980, 400, 690, 600, 800, 950, 500, 740, 200, 950, 310, 600, 20, 400, 380, 380];
  const out = new Uint8Array(n);
  insidePolygon(x, y, star, out);
  for (let k = 0; k < n; k++) {
    let inside = false;
    for (let i = 0, j = star.length / 2 - 1; i < star.length / 2; j = i++) {
      const [xi, yi, xj, yj] = [star[2 * i], star[2 * i + 1], star[2 * j], star[2 * j + 1]];
      if (yi > y[k] !== yj > y[k] && x[k] < ((xj - xi) * (y[k] - yi)) / (yj - yi) + xi) inside = !inside;
    }
    assert.equal(out[k], inside ? 1 : 0, `point ${k}`);
  }
});

test("a line is no area", () => {
  const out = new Uint8Array(2).fill(1);
  insidePolygon([1, 2], [1, 2], [0, 0, 5, 5], out);
  assert.deepEqual([...out], [0, 0]);
});

test("masks are combined as sets", () => {
  const of = (...cells: number[]) => Uint8Array.from({ length: 6 }, (_, i) => (cells.includes(i) ? 1 : 0));
  const mask = of(0, 1, 2);
  combine("add", mask, of(4));
  assert.deepEqual(members(mask), [0, 1, 2, 4]);
  combine("subtract", mask, of(1, 5));
  assert.deepEqual(members(mask), [0, 2, 4]);
  combine("intersect", mask, of(2, 4, 5));
  assert.deepEqual(members(mask), [2, 4]);
  combine("replace", mask, of(3));
  assert.equal(count(mask), 1);
});
