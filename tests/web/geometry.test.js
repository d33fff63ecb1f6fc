import assert from "node:assert/strict";
import { test } from "node:test";

import * as geometry from "../../web/geometry.js";

const SIZE = { width: 512, height: 256 };
const BOX = [0.25, 0.5, 0.5, 0.75];

// The same numbers on every run (mulberry32), so that a failure comes back.
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function near(actual, expected, within = 1e-9) {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, index) => assert.ok(Math.abs(value - expected[index]) <= within, `${actual} is not ${expected}`));
}

function isBox([x0, y0, x1, y1]) {
  return 0 <= x0 && x0 < x1 && x1 <= 1 && 0 <= y0 && y0 < y1 && y1 <= 1;
}

test("a drag in any direction gives the same box, cut off at the image", () => {
  near(geometry.boxBetween([0.5, 0.75], [0.25, 0.5]), BOX);
  near(geometry.boxBetween([0.25, 0.75], [0.5, 0.5]), BOX);
  near(geometry.boxBetween([-0.5, 0.25], [0.5, 3]), [0, 0.25, 0.5, 1]);
});

test("the front box is hit first, and a repeated click goes through the pile", () => {
  const boxes = [[0, 0, 1, 1], BOX, [0.3, 0.5, 0.6, 0.9]];
  assert.deepEqual(geometry.hits(boxes, [0.4, 0.6]), [2, 1, 0]);
  assert.deepEqual(geometry.hits(boxes, [0.9, 0.1]), [0]);
  assert.equal(geometry.nextHit(boxes, [0.4, 0.6], -1, false), 2);
  assert.equal(geometry.nextHit(boxes, [0.4, 0.6], 1, false), 1, "what is selected stays in hand");
  assert.equal(geometry.nextHit(boxes, [0.4, 0.6], 2, true), 1);
  assert.equal(geometry.nextHit(boxes, [0.4, 0.6], 0, true), 2, "after the last comes the first");
  assert.equal(geometry.nextHit([BOX], [0.9, 0.9], 0, false), -1);
});

test("each handle is found at its point and within reach of it", () => {
  for (const handle of geometry.HANDLES) {
    const [x, y] = geometry.handlePoint(BOX, handle);
    assert.equal(geometry.handleAt(BOX, [x + 0.009, y - 0.009], [0.01, 0.01]), handle);
    assert.notEqual(geometry.handleAt(BOX, [x + 0.011, y], [0.01, 0.01]), handle);
  }
  assert.equal(geometry.handleAt([0.5, 0.5, 0.501, 0.501], [0.5, 0.5], [0.01, 0.01]).length, 2, "a corner wins");
});

test("a handle moves its own edges only, and may cross over", () => {
  near(geometry.resized(BOX, "e", [0.8, 0.1]), [0.25, 0.5, 0.8, 0.75]);
  near(geometry.resized(BOX, "n", [0.8, 0.1]), [0.25, 0.1, 0.5, 0.75]);
  near(geometry.resized(BOX, "sw", [0.1, 0.9]), [0.1, 0.5, 0.5, 0.9]);
  near(geometry.resized(BOX, "w", [0.75, 0]), [0.5, 0.5, 0.75, 0.75], 1e-9);
  near(geometry.resized(BOX, "se", [7, -7]), [0.25, 0, 1, 0.5]);
});

test("a moved box keeps its size and stays in the image", () => {
  near(geometry.movedBy(BOX, [0.1, -0.2]), [0.35, 0.3, 0.6, 0.55]);
  near(geometry.movedBy(BOX, [9, -9]), [0.75, 0, 1, 0.25]);
});

test("snapping puts edges on 8 pixels and never takes a box away", () => {
  near(geometry.snapBox([0.253, 0.5, 0.49, 0.76], SIZE), [128 / 512, 0.5, 248 / 512, 192 / 256]);
  near(geometry.snapBox([0.25, 0.5, 0.251, 0.501], SIZE), [0.25, 0.5, 136 / 512, 136 / 256], 1e-9);
  near(geometry.snapBox([0.999, 0.999, 1, 1], SIZE), [504 / 512, 248 / 256, 1, 1]);
  near(geometry.movedOnGrid([0.251, 0.5, 0.501, 0.75], [0.01, 0], SIZE), [136 / 512, 0.5, 136 / 512 + 0.25, 0.75]);
});

test("a region smaller than one cell of 8 pixels is tiny", () => {
  assert.equal(geometry.isTiny([0, 0, 8 / 512, 8 / 256], SIZE), false);
  assert.equal(geometry.isTiny([0.1, 0.1, 0.115625, 0.13125], SIZE), false, "also after rounding to six digits");
  assert.equal(geometry.isTiny([0, 0, 7.9 / 512, 0.5], SIZE), true);
  assert.equal(geometry.isTiny([0, 0, 0.5, 7.9 / 256], SIZE), true);
});

test("points are carried with their box", () => {
  near(geometry.carried([0.25, 0.75], BOX, [0, 0, 1, 1]), [0, 1]);
  near(geometry.carried([0.375, 0.625], BOX, [0.1, 0.2, 0.3, 0.6]), [0.2, 0.4]);
  // A point outside its box stays in the picture, however far the box is stretched.
  near(geometry.carried([0.9, 0.1], BOX, [0.2, 0.2, 0.9, 0.9]), [1, 0]);
});

test("reordering moves one and keeps the rest in order", () => {
  assert.deepEqual(geometry.reordered(["a", "b", "c"], 0, 2), ["b", "c", "a"]);
  assert.deepEqual(geometry.reordered(["a", "b", "c"], 2, -5), ["c", "a", "b"]);
  assert.deepEqual(geometry.reordered(["a", "b", "c"], 1, 9), ["a", "c", "b"]);
});

test("whatever the hand does, a box remains a box", () => {
  const next = random(1);
  const point = () => [next() * 3 - 1, next() * 3 - 1];
  for (let round = 0; round < 5000; round++) {
    const size = { width: 16 + Math.floor(next() * 2000), height: 16 + Math.floor(next() * 2000) };
    let box = geometry.atLeast(geometry.boxBetween(point(), point()), 1, size);
    assert.ok(isBox(box), `drawn ${box}`);
    const by = point();
    const moved = geometry.movedBy(box, by);
    near([moved[2] - moved[0], moved[3] - moved[1]], [box[2] - box[0], box[3] - box[1]], 1e-12);
    const handle = geometry.HANDLES[Math.floor(next() * 8)];
    for (box of [geometry.atLeast(geometry.resized(box, handle, by), 1, size), geometry.snapBox(box, size), geometry.movedOnGrid(box, by, size)]) {
      assert.ok(isBox(box.map((edge) => Math.round(edge * 1e6) / 1e6)), `${handle} ${box}`);
    }
  }
});

test("a box holds its edges and nothing beyond them", () => {
  for (const point of [[0.25, 0.6], [0.5, 0.6], [0.3, 0.5], [0.3, 0.75]]) assert.ok(geometry.contains(BOX, point), `${point}`);
  for (const point of [[0.249, 0.6], [0.501, 0.6], [0.3, 0.499], [0.3, 0.751]]) assert.ok(!geometry.contains(BOX, point), `${point}`);
});

test("handles lie on their own corners and edges", () => {
  const points = { nw: [0.25, 0.5], n: [0.375, 0.5], ne: [0.5, 0.5], e: [0.5, 0.625], se: [0.5, 0.75], s: [0.375, 0.75], sw: [0.25, 0.75], w: [0.25, 0.625] };
  assert.deepEqual([...geometry.HANDLES].sort(), Object.keys(points).sort());
  for (const [handle, point] of Object.entries(points)) assert.deepEqual(geometry.handlePoint(BOX, handle), point);
});

test("a handle's reach is its own in each direction", () => {
  assert.equal(geometry.handleAt(BOX, [0.5 + 0.02, 0.625], [0.02 + 1e-9, 0]), "e");
  assert.equal(geometry.handleAt(BOX, [0.5 + 0.02, 0.625], [0, 0.1]), null);
  assert.equal(geometry.handleAt(BOX, [0.375, 0.5 - 0.02], [0, 0.02 + 1e-9]), "n");
  assert.equal(geometry.handleAt(BOX, [0.375, 0.5 - 0.02], [0.1, 0.01]), null);
});

test("a box grows to a least size right and down, or left and up at the edge", () => {
  near(geometry.atLeast([0.25, 0.25, 0.251, 0.251], 64, SIZE), [0.25, 0.25, 0.375, 0.5]);
  near(geometry.atLeast([0.99, 0.99, 1, 1], 64, SIZE), [0.875, 0.75, 1, 1]);
  near(geometry.atLeast([0.25, 0.25, 0.75, 0.75], 64, SIZE), [0.25, 0.25, 0.75, 0.75]);
  near(geometry.atLeast([0.5, 0.5, 0.6, 0.6], 400, SIZE), [0.5 - 0.28125, 0, 1, 1]);
});

test("a point snaps to the grid of its own direction", () => {
  near(geometry.snapPoint([0.25 + 3.9 / 512, 0.25 + 4.1 / 256], SIZE), [0.25, 0.25 + 8 / 256]);
  near(geometry.snapPoint([1.2, -0.2], SIZE), [1, 0]);
  near(geometry.snapPoint([0.999, 0], { width: 100, height: 100 }), [0.96, 0]);
});

test("a box moved on the grid lands with its left upper corner on it, as far as the edge", () => {
  near(geometry.movedOnGrid([0.1, 0.1, 0.3, 0.3], [0.001, 0.001], SIZE), [48 / 512, 24 / 256, 48 / 512 + 0.2, 24 / 256 + 0.2]);
  near(geometry.movedOnGrid([0.1, 0.1, 0.303, 0.303], [2, -2], SIZE), [1 - 0.203, 0, 1, 0.203], 0.01);
});
