import assert from "node:assert/strict";
import { test } from "node:test";
import { toMap, toScreen, WHOLE, zoomAt } from "../raster/camera";
import { drawDots, makePlane, pick, placeThumbnails, shuffledOrder } from "../raster/draw";

const points = { x: Uint16Array.from([0, 32768, 65535]), y: Uint16Array.from([0, 32768, 65535]) };
const frame = { camera: WHOLE, diameter: 5, background: 0xffffffff, owners: true };

test("a dot is drawn where the camera says, and picked there", () => {
  const plane = makePlane(200, 100);
  const paint = Uint32Array.from([0xff0000ff, 0xff00ff00, 0xffff0000]);
  assert.equal(drawDots(plane, points, paint, null, frame), 3);
  for (let k = 0; k < 3; k++) {
    const [x, y] = toScreen(WHOLE, 200, 100, points.x[k], points.y[k]);
    assert.equal(pick(plane, x, y, 3), k + 1);
    assert.equal(plane.pixels[(Math.floor(y) + plane.margin) * plane.stride + Math.floor(x) + plane.margin], paint[k]);
  }
  assert.equal(pick(plane, 100, 10, 14), 0);
});

test("hidden dots are neither drawn nor picked, selected ones lie on top", () => {
  const plane = makePlane(100, 100);
  const same = { x: Uint16Array.from([100, 100]), y: Uint16Array.from([100, 100]) };
  const [x, y] = toScreen(WHOLE, 100, 100, 100, 100);
  drawDots(plane, same, Uint32Array.from([1, 2]), Uint8Array.from([1, 0]), frame);
  assert.equal(pick(plane, x, y, 3), 1);
  drawDots(plane, same, Uint32Array.from([0, 2]), Uint8Array.from([1, 0]), frame);
  assert.equal(pick(plane, x, y, 3), 2);
});

test("dots outside of the picture touch nothing", () => {
  const plane = makePlane(60, 60);
  const paint = Uint32Array.from([5, 5, 5]);
  drawDots(plane, points, paint, null, { ...frame, camera: { x: 65535, y: 0, zoom: 100 }, diameter: 11 });
  assert.equal(plane.pixels.indexOf(5), -1);
});

test("zooming keeps what lies under the pointer", () => {
  const before = toMap(WHOLE, 300, 200, 40, 70);
  const camera = zoomAt(WHOLE, 300, 200, 40, 70, 7);
  const after = toMap(camera, 300, 200, 40, 70);
  assert.ok(Math.abs(before[0] - after[0]) < 1e-6 && Math.abs(before[1] - after[1]) < 1e-6);
});

test("the order of drawing is a permutation, the same each time", () => {
  const order = shuffledOrder(1000);
  assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i));
  assert.deepEqual(order, shuffledOrder(1000));
});

test("thumbnails never share a square, and are there at every zoom that shows few cells", () => {
  const plane = makePlane(200, 200);
  const paint = new Uint32Array(3).fill(7);
  for (const zoom of [1, 10, 100, 2999]) {
    const { side, placed } = placeThumbnails(plane, points, paint, null, { x: 32768, y: 32768, zoom }, 1, false);
    assert.ok(side >= 20 && placed.length >= 1);
  }
});
