import assert from "node:assert/strict";
import { test } from "node:test";
import { finish } from "../data/pacing";
import { effect, histogram } from "../data/statistics";
import { compose } from "../data/sheets";
import { bucketsOf, tableOf } from "../view/colouring";

test("the effect is the share of pairs in which a selected cell has more", () => {
  const values = Float32Array.from({ length: 400 }, (_, i) => Math.sin(i * 12.9898) * 50);
  const mask = Uint8Array.from(values, (value, i) => (value > 10 || i % 3 === 0 ? 1 : 0));
  let wins = 0;
  let pairs = 0;
  for (let i = 0; i < 400; i++) for (let j = 0; j < 400; j++) {
    if (!mask[i] || mask[j]) continue;
    pairs++;
    wins += values[i] > values[j] ? 1 : values[i] === values[j] ? 0.5 : 0;
  }
  const found = finish(effect(values, mask, [-50, 50]));
  assert.ok(found && Math.abs(found.auc - wins / pairs) < 0.002);
  assert.ok(found.low < found.auc && found.auc < found.high);
});

test("cells without a value are counted nowhere", () => {
  const values = Float32Array.from([1, NaN, 2, NaN]);
  assert.equal(finish(effect(values, Uint8Array.from([0, 1, 0, 1]), [1, 2])), undefined);
  assert.deepEqual([...histogram(values, 1, 2, 2)], [1, 1]);
});

test("the range of the colours clamps, a missing value is grey", () => {
  const column = { key: "a", title: "a", role: "property", kind: "number", array: "a", limits: [0, 10] } as const;
  const buckets = bucketsOf({ ...column, limits: [0, 10] }, Float32Array.from([0, 5, 10, NaN]), [4, 6], 4);
  assert.deepEqual([...buckets], [0, 125, 250, 255]);
  const table = tableOf({ ...column, limits: [0, 10] }, "light");
  assert.notEqual(table[0], table[250]);
  assert.notEqual(table[0], table[256]);
});

test("one image channel is grey, two are tinted and added", () => {
  const plane = (value: number) => Uint8ClampedArray.from([value, value, value, 255]);
  assert.deepEqual([...compose([plane(128)], [[255, 0, 0]], 0, 1, false)], [128, 128, 128, 255]);
  assert.deepEqual([...compose([plane(255), plane(255)], [[255, 0, 0], [0, 255, 0]], 0, 1, false)], [255, 255, 0, 255]);
  assert.deepEqual([...compose([plane(128)], [[255, 255, 255]], 0, 0.25, false)].slice(0, 3), [255, 255, 255]);
});
