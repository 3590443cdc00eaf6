import assert from "node:assert/strict";
import { test } from "node:test";
import { toMap, toScreen, WHOLE, zoomAt } from "../raster/camera";
import { colourOwned, drawDots, makePlane, pick, placeThumbnails, shuffledOrder } from "../raster/draw";

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

test("other colours on the same dots are the picture that drawing them anew gives", () => {
  const n = 400;
  const some = { x: Uint16Array.from({ length: n }, (_, k) => (k * 7919) % 65536), y: Uint16Array.from({ length: n }, (_, k) => (k * 104729) % 65536) };
  const raised = Uint8Array.from({ length: n }, (_, k) => (k % 3 ? 0 : 1));
  const paint = (by: number) => Uint32Array.from({ length: n }, (_, k) => (k % 5 ? 0xff000000 + k * by : 0));
  const recoloured = makePlane(120, 90);
  const anew = makePlane(120, 90);
  drawDots(recoloured, some, paint(3), raised, frame);
  colourOwned(recoloured, paint(11), frame.background);
  drawDots(anew, some, paint(11), raised, frame);
  assert.deepEqual(recoloured.pixels, anew.pixels);
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
