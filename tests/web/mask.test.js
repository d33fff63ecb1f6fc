import assert from "node:assert/strict";
import { test } from "node:test";

import * as layouts from "../../web/layout.js";
import { bounds, carriedMask, emptyGrid, fillBox, fineGrid, stamp, toGrid, toMask } from "../../web/mask.js";
import { Tools } from "../../web/tools.js";

const SIZE = { width: 768, height: 512 };
const close = (actual, expected, within) => actual.forEach((value, at) => assert.ok(Math.abs(value - expected[at]) <= within, `${actual} is not ${expected}`));

// The ring that pycocotools wrote, as in tests/core/test_layouts.py.
const RING = { size: [48, 64], counts: "_h0;S14M2M4M2O0O2N2O0O2O000000@DL<3FL:3HL84HL84HL84HL84HL93GL:4FL;4CL?4_OLb0a01N3L3N3LSl0" };

test("COCO's run lengths are read and written again", () => {
  const grid = toGrid(RING);
  for (let y = 0; y < 48; y++) {
    for (let x = 0; x < 64; x++) {
      const inside = (x - 30) ** 2 + (y - 20) ** 2 < 15 ** 2 && !((x - 34) ** 2 + (y - 22) ** 2 < 6 ** 2);
      assert.equal(grid.cells[y * 64 + x], Number(inside), `${x}, ${y}`);
    }
  }
  assert.deepEqual(toMask({ ...grid }), RING);
  assert.deepEqual(toGrid({ size: [2, 2], counts: [1, 2, 1] }).cells, new Uint8Array([0, 1, 1, 0]));
});

test("a mask stays what it is while its grid is painted on", () => {
  const grid = emptyGrid({ width: 8, height: 8 });
  fillBox(grid, [0, 0, 0.5, 0.5]);
  const mask = toMask(grid);
  fillBox(grid, [0, 0, 1, 1]);
  assert.deepEqual(bounds(toGrid(mask)), [0, 0, 0.5, 0.5]);
});

test("broken masks are refused", () => {
  for (const mask of [null, {}, { size: [2], counts: "0" }, { size: [2, 2], counts: "~" }, { size: [2, 2], counts: [1, 1] }, { size: [2, 2], counts: [5, -1] }, { size: [1e9, 1e9], counts: [] }, { size: [2, 2], counts: "P" }]) {
    assert.throws(() => toGrid(mask), Error, JSON.stringify(mask));
  }
});

test("a grid has the picture's shape", () => {
  assert.deepEqual([emptyGrid(SIZE).width, emptyGrid(SIZE).height], [256, 171]);
  assert.deepEqual([emptyGrid({ width: 64, height: 1024 }).width, emptyGrid({ width: 64, height: 1024 }).height], [16, 256]);
  assert.equal(bounds(emptyGrid(SIZE)), null);
});

test("a dab is round in the picture, and the eraser takes it away", () => {
  const grid = emptyGrid(SIZE);
  stamp(grid, [0.5, 0.5], null, 0.2, SIZE, 1);
  const radius = 0.2 * 512;
  close(bounds(grid), [0.5 - radius / 768, 0.3, 0.5 + radius / 768, 0.7], 0.01);
  const area = grid.cells.reduce((sum, cell) => sum + cell, 0) / grid.cells.length;
  assert.ok(Math.abs(area - (Math.PI * radius ** 2) / (768 * 512)) < 0.004);
  stamp(grid, [0.5, 0.5], null, 0.21, SIZE, 0);
  assert.equal(bounds(grid), null);
});

test("a dab over an edge paints nothing on the other side", () => {
  for (const [x, y] of [[1, 0.5], [0, 0.5], [0.5, 1], [0.5, 0]]) {
    const grid = emptyGrid(SIZE);
    stamp(grid, [x, y], null, 0.1, SIZE, 1);
    const [rx, ry] = [(0.1 * 512) / 768, 0.1];
    const expected = [x - rx, y - ry, x + rx, y + ry].map((edge) => Math.min(Math.max(edge, 0), 1));
    close(bounds(grid), expected, 0.01);
  }
});

test("a fast hand leaves no gaps, and the finest brush still leaves a line", () => {
  const grid = emptyGrid(SIZE);
  stamp(grid, [0.1, 0.2], [0.9, 0.8], 0, SIZE, 1);
  for (let step = 0; step <= 100; step++) {
    const [x, y] = [0.1 + 0.008 * step, 0.2 + 0.006 * step];
    assert.equal(grid.cells[Math.floor(y * grid.height) * grid.width + Math.floor(x * grid.width)], 1);
  }
  stamp(grid, [-3, 5], [9, -2], 0.01, SIZE, 1); // off the canvas: no harm
});

test("a mask moves and scales with its box", () => {
  const grid = emptyGrid(SIZE);
  fillBox(grid, [0.125, 0.25, 0.375, 0.75]);
  stamp(grid, [0.25, 0.5], null, 0.1, SIZE, 0);
  const box = bounds(grid);
  const mask = toMask(grid);
  const moved = carriedMask(mask, box, box.map((edge, at) => edge + (at % 2 ? 0.1 : 0.5)));
  close(bounds(toGrid(moved)), box.map((edge, at) => edge + (at % 2 ? 0.1 : 0.5)), 0.01);
  const area = ({ cells }) => cells.reduce((sum, cell) => sum + cell, 0) / cells.length;
  assert.ok(Math.abs(area(toGrid(moved)) - area(grid)) < 0.003, "the hole goes along");
  const half = carriedMask(mask, box, [0, 0, (box[2] - box[0]) / 2, (box[3] - box[1]) / 2]);
  assert.ok(Math.abs(area(toGrid(half)) - area(grid) / 4) < 0.003);
  assert.ok(bounds(toGrid(carriedMask(mask, box, [0.5, 0.5, 0.5001, 0.5001]))), "never to nothing");
});

test("a layout's mask follows withBox, and painting makes box and mask", () => {
  let layout = { prompt: "", regions: [layouts.newRegion([0.25, 0.25, 0.75, 0.75])] };
  const grid = layouts.gridOf(layout.regions[0], SIZE);
  close(bounds(grid), [0.25, 0.25, 0.75, 0.75], 0.005);
  stamp(grid, [0.8, 0.5], null, 0.1, SIZE, 1);
  layout = layouts.withGrid(layout, 0, grid);
  const [region] = layout.regions;
  close(region.box, [0.25, 0.25, 0.8 + (0.1 * 512) / 768, 0.75], 0.01);
  const again = layouts.parseLayout(layouts.writeLayout(layout)).regions[0];
  assert.deepEqual(again.mask, region.mask);
  const [moved] = layouts.withBox(layout, 0, region.box.map((edge) => edge * 0.5), SIZE).regions;
  close(bounds(toGrid(moved.mask)), moved.box, 0.01);
  assert.equal(layouts.withGrid(layout, 0, emptyGrid(SIZE)), layout, "nothing painted changes nothing");
});

test("a place of a radius of its own is painted on as it lies", () => {
  const grid = layouts.gridOf({ ...layouts.newRegion([0, 0, 1, 1]), point: [0.5, 0.5], radius: 0.25 }, SIZE);
  const rx = (0.25 * 512) / 768;
  close(bounds(grid), [0.5 - rx, 0.25, 0.5 + rx, 0.75], 0.01);
  const line = layouts.gridOf({ ...layouts.newRegion([0, 0, 1, 1]), scribble: [[0.3, 0.5], [0.7, 0.5]], radius: 0.1 }, SIZE);
  close(bounds(line).filter((_, at) => at % 2), [0.4, 0.6], 0.01);
});

test("a coarse mask is painted on at the editor's fineness, a fine one at its own", () => {
  const coarse = toGrid({ size: [2, 2], counts: [0, 1, 3] });
  assert.deepEqual([fineGrid(coarse, SIZE).width, bounds(fineGrid(coarse, SIZE))[2]], [256, 0.5]);
  const fine = emptyGrid({ width: 256, height: 256 });
  const copy = fineGrid(fine, SIZE);
  assert.equal(copy.height, 256);
  copy.cells[0] = 1;
  assert.equal(fine.cells[0], 0);
});

test("a layout with a broken or empty mask is refused with its place", () => {
  const text = (mask) => JSON.stringify({ regions: [{ phrase: "a", box: [0, 0, 1, 1], mask }] });
  assert.throws(() => layouts.parseLayout(text({ size: [2, 2], counts: [3] })), /regions\[0\]\.mask cannot be read/);
  assert.throws(() => layouts.parseLayout(text({ size: [2, 2], counts: [4] })), /regions\[0\]\.mask is empty/);
});

// The editor as the tools see it, with the real editing steps.
function editorWith(regions, selected) {
  const editing = new layouts.Editing();
  editing.load(layouts.writeLayout({ prompt: "", regions }));
  return {
    editing,
    selected,
    steps: 0,
    phrases: 0,
    size: SIZE,
    host: { brush: 0.05 },
    get layout() {
      return editing.layout;
    },
    preview: (change) => editing.preview(change),
    commit() {
      this.steps += editing.commit();
    },
    cancel: () => editing.cancel(),
    select(index) {
      this.selected = index;
    },
    say(text) {
      this.said = text;
    },
    editPhrase() {
      this.phrases++;
    },
  };
}

test("a long brush stroke is one step and a small JSON", () => {
  const editor = editorWith([], -1);
  const tools = new Tools(editor);
  tools.begin("brush", [0.1, 0.5]);
  for (let step = 0; step <= 300; step++) tools.move([0.1 + step / 400, 0.5 + 0.3 * Math.sin(step / 15)]);
  assert.equal(editor.editing.done.regions.length, 0, "nothing is done before the hand is lifted");
  tools.end();
  assert.deepEqual([editor.steps, editor.selected, editor.phrases], [1, 0, 1]);
  assert.ok(layouts.writeLayout(editor.layout).length < 8000);
  const [{ box, mask }] = editor.layout.regions;
  assert.deepEqual(box, bounds(toGrid(mask)));
});

test("brush and eraser change the selected region, Shift begins another", () => {
  const editor = editorWith([layouts.newRegion([0.2, 0.2, 0.4, 0.4])], 0);
  const tools = new Tools(editor);
  tools.begin("eraser", [0.2, 0.3]);
  tools.end();
  assert.ok(editor.layout.regions[0].mask && editor.phrases === 0);
  tools.begin("brush", [0.8, 0.8], { fresh: true });
  tools.end();
  assert.deepEqual([editor.layout.regions.length, editor.steps], [2, 2]);
  editor.selected = 1;
  tools.begin("eraser", [0.8, 0.8]);
  tools.move([0.79, 0.8]);
  tools.end();
  assert.equal(editor.steps, 2);
  assert.match(editor.said, /Nothing would be left/);
  editor.selected = -1;
  assert.equal(tools.begin("eraser", [0.5, 0.5]), false);
  assert.match(editor.said, /Select the region/);
});

test("stroke and point are places of their own", () => {
  const editor = editorWith([layouts.newRegion([0.2, 0.2, 0.6, 0.6])], 0);
  const tools = new Tools(editor);
  tools.begin("stroke", [0.3, 0.3]);
  tools.move([0.301, 0.3]);
  tools.move([0.5, 0.5]);
  tools.end();
  let [region] = editor.layout.regions;
  assert.deepEqual([region.scribble, region.radius, region.box], [[[0.3, 0.3], [0.5, 0.5]], 0.05, [0.2, 0.2, 0.6, 0.6]]);
  tools.begin("point", [0.5, 0.9]);
  tools.move([1.4, 0.9]);
  tools.end();
  [region] = editor.layout.regions;
  assert.deepEqual([region.point, region.scribble, region.radius], [[1, 0.9], undefined, undefined]);
  assert.deepEqual([region.box[0], region.box[2], region.box[3]], [0.2, 1, 1], "the box grows to hold it");
  tools.begin("brush", [0.1, 0.1]);
  tools.end();
  [region] = editor.layout.regions;
  assert.ok(region.mask && region.point === undefined);
  assert.ok(toGrid(region.mask).cells[153 * 256 + 250], "the disc became part of the painted place");
});
