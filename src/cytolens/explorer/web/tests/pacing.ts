import assert from "node:assert/strict";
import { test } from "node:test";
import { pageOf } from "../data/order";
import { finish, Paced } from "../data/pacing";

test("long work lets others go first, and gives its result", async () => {
  let others = 0;
  const result = await new Promise<number>((resolve) => {
    function* long(): Generator<void, number> {
      const until = performance.now() + 60;
      while (performance.now() < until) yield;
      return others;
    }
    const tick = () => (others++, setTimeout(tick, 1).unref());
    tick();
    const work: Paced<number> = new Paced(long(), () => resolve(work.value ?? -1));
    assert.equal(work.value, undefined);
  });
  assert.ok(result > 1);
});

test("work that is no longer wanted stops, and short work is done at once", async () => {
  let turns = 0;
  const work = new Paced((function* () { for (;;) { turns++; yield; } })(), () => undefined);
  work.stop();
  const before = turns;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(turns, before);
  assert.equal(new Paced((function* () { yield; return 7; })(), () => undefined).value, 7);
});

test("a page of an order is that of the whole order", () => {
  const n = 5000;
  const keys = Float32Array.from({ length: n }, (_, i) => (i % 97 === 0 ? NaN : Math.floor((i * 7919) % 1000)));
  const mask = Uint8Array.from({ length: n }, (_, i) => (i % 3 ? 1 : 0));
  const key = (i: number) => (Number.isNaN(keys[i]) ? Infinity : keys[i]);
  const whole = [...mask.keys()].filter((i) => mask[i]).sort((a, b) => (key(a) === key(b) ? a - b : key(a) - key(b)));
  for (const [from, to] of [[0, 60], [600, 660], [3300, 3360], [0, n]]) {
    assert.deepEqual(finish(pageOf(mask, keys, from, to)), whole.slice(from, to));
  }
  assert.deepEqual(finish(pageOf(new Uint8Array(n), keys, 0, 60)), []);
});
