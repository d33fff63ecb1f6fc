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

test("the eraser paints away along its whole way, the brush with a pen's force", () => {
  const wholly = { size: [2, 2], counts: [0, 4] };
  const editor = editorWith([{ ...layouts.newRegion([0, 0, 1, 1]), mask: wholly }], 0);
  const tools = new Tools(editor);
  const cellAt = (x, y) => {
    const { cells, width, height } = toGrid(editor.layout.regions[0].mask);
    return cells[Math.floor(y * height) * width + Math.floor(x * width)];
  };
  assert.equal(tools.begin("eraser", [0.2, 0.5]), true);
  tools.move([0.8, 0.5]);
  tools.end();
  assert.deepEqual([cellAt(0.2, 0.5), cellAt(0.5, 0.5), cellAt(0.8, 0.5), cellAt(0.5, 0.4)], [0, 0, 0, 1]);
  tools.begin("brush", [0.2, 0.5], { force: 0.25 });
  tools.move([0.8, 0.5], 1);
  tools.end();
  assert.deepEqual([cellAt(0.5, 0.47), cellAt(0.8, 0.46), cellAt(0.5, 0.5)], [1, 1, 1]);
  assert.deepEqual([editor.phrases, editor.selected, editor.steps], [0, 0, 2]);
});

test("a light pen's first dab is small", () => {
  const heightOf = (force) => {
    const editor = editorWith([], -1);
    const tools = new Tools(editor);
    tools.begin("brush", [0.5, 0.5], { force });
    tools.end();
    const [, top, , bottom] = editor.layout.regions[0].box;
    return bottom - top;
  };
  close([heightOf(1), heightOf(0.5), heightOf(undefined)], [0.1, 0.05, 0.1], 0.012);
});

test("a new stroke and point come after the others, are selected and ask for their phrase", () => {
  for (const tool of ["stroke", "point", "brush"]) {
    const editor = editorWith([layouts.newRegion([0.2, 0.2, 0.6, 0.6])], -1);
    const tools = new Tools(editor);
    assert.equal(tools.begin(tool, [0.5, 0.5]), true);
    assert.ok(tools.isDown);
    tools.end();
    assert.deepEqual([tools.isDown, editor.layout.regions.length, editor.selected, editor.phrases], [false, 2, 1, 1], tool);
    assert.deepEqual(editor.layout.regions[0].box, [0.2, 0.2, 0.6, 0.6]);
  }
});

test("a stroke's points lie apart by a two hundred and fiftieth of the picture, and within it", () => {
  const editor = editorWith([], -1);
  const tools = new Tools(editor);
  tools.begin("stroke", [-0.5, 0.5]);
  for (const x of [0.0039, 0.0041, 0.006, 0.0082, 3]) tools.move([x, 0.5]);
  tools.end();
  assert.deepEqual(editor.layout.regions[0].scribble.map(([x]) => x), [0, 0.0041, 0.0082, 1]);
});

test("the stroke that is shown does not change the one that was", () => {
  const editor = editorWith([], -1);
  const tools = new Tools(editor);
  tools.begin("stroke", [0.1, 0.5]);
  const [{ scribble }] = editor.layout.regions;
  tools.move([0.9, 0.5]);
  assert.equal(scribble.length, 1);
});

test("a tool that is let go of leaves nothing", () => {
  const editor = editorWith([], -1);
  const tools = new Tools(editor);
  tools.begin("brush", [0.5, 0.5]);
  tools.letGo();
  assert.deepEqual([tools.isDown, editor.steps, editor.editing.done.regions], [false, 0, []]);
});

test("erasing all leaves the region as it was and asks for no phrase", () => {
  const editor = editorWith([layouts.newRegion([0.4, 0.4, 0.42, 0.42])], 0);
  const tools = new Tools(editor);
  tools.begin("eraser", [0.41, 0.41]);
  tools.end();
  assert.deepEqual([editor.editing.isUnderWay, editor.layout.regions[0].mask, editor.phrases, tools.isDown], [false, undefined, 0, false]);
});

test("masks that no grid can be are refused by what is wrong", () => {
  const told = [
    [{ size: [0, 2], counts: [] }, /size/],
    [{ size: [2, 1.5], counts: [3] }, /size/],
    [{ size: [1 << 13, (1 << 13) + 1], counts: [] }, /size/],
    [{ size: [2, 2], counts: [1.5, 2.5] }, /run lengths/],
    [{ size: [2, 2], counts: { 0: 4 } }, /run lengths/],
    [{ size: [2, 3], counts: [5] }, /do not cover 2 x 3/],
    [{ size: [2, 2], counts: "!" }, /no run length text/],
    [{ size: [2, 2], counts: "p" }, /no run length text/],
    [{ size: [2, 2], counts: "PPPPPPPP0" }, /no run length text/],
    [{ size: [2, 2], counts: "P" }, /middle of a run length/],
  ];
  for (const [mask, message] of told) assert.throws(() => toGrid(mask), message, JSON.stringify(mask));
});

test("masks of many runs, long and short, survive their text", () => {
  const grid = { height: 300, width: 200, cells: new Uint8Array(60000) };
  for (let at = 0; at < 60000; at++) grid.cells[at] = Number((at * at) % 7 < 3 && at % 1300 > 200);
  const mask = toMask(grid);
  assert.deepEqual([mask.size, toGrid({ ...mask }).cells], [[300, 200], grid.cells]);
  const inside = { height: 2, width: 3, cells: new Uint8Array([1, 1, 1, 1, 1, 1]) };
  assert.deepEqual(toMask(inside), { size: [2, 3], counts: "06" });
});

test("bounds and boxes are of whole cells, at least one", () => {
  const grid = emptyGrid({ width: 8, height: 4 });
  assert.deepEqual([grid.width, grid.height], [256, 128]);
  const small = () => ({ height: 4, width: 8, cells: new Uint8Array(32) });
  const filled = (box) => {
    const into = small();
    fillBox(into, box);
    return bounds(into);
  };
  assert.deepEqual(filled([0.125, 0.25, 0.5, 0.75]), [0.125, 0.25, 0.5, 0.75]);
  assert.deepEqual(filled([0.3, 0.3, 0.301, 0.301]), [0.25, 0.25, 0.375, 0.5]);
  assert.deepEqual(filled([0.99, 0.99, 1, 1]), [0.875, 0.75, 1, 1]);
  const corners = small();
  corners.cells[1] = corners.cells[30] = 1;
  assert.deepEqual(bounds(corners), [0.125, 0, 0.875, 1]);
});

test("a dab of no size is one cell, and painting ends exactly at its reach", () => {
  const painted = (at, radius) => {
    const grid = { height: 10, width: 10, cells: new Uint8Array(100) };
    stamp(grid, at, null, radius, { width: 100, height: 100 }, 1);
    return grid.cells.reduce((sum, cell) => sum + cell, 0);
  };
  assert.equal(painted([0.55, 0.55], 0), 1);
  assert.equal(painted([0.55, 0.55], 0.1), 5);
  assert.equal(painted([0.55, 0.55], 0.2), 13);
});

test("a place that a mask was too small for keeps its middle", () => {
  const mask = { size: [4, 4], counts: [0, 16] };
  const carried = toGrid(carriedMask(mask, [0, 0, 1, 1], [0.55, 0.3, 0.551, 0.301]));
  assert.deepEqual(bounds(carried), [0.5, 0.25, 0.75, 0.5]);
});

test("a grid that is fine in one direction only is made finer", () => {
  const thin = { height: 1, width: 512, cells: new Uint8Array(512).fill(1) };
  assert.deepEqual([fineGrid(thin, SIZE).width, fineGrid(thin, SIZE).height], [256, 171]);
});

test("a stroke is painted on between its points only, and a lone point as a disc", () => {
  const grid = layouts.gridOf({ ...layouts.newRegion([0, 0, 1, 1]), scribble: [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8]] }, SIZE);
  const at = (x, y) => grid.cells[Math.floor(y * grid.height) * grid.width + Math.floor(x * grid.width)];
  assert.deepEqual([at(0.5, 0.2), at(0.8, 0.5), at(0.5, 0.5), at(0.2, 0.2)], [1, 1, 0, 1]);
  close(bounds(grid), [0.2 - (0.02 * 512) / 768, 0.18, 0.8 + (0.02 * 512) / 768, 0.82], 0.01);
  const disc = layouts.gridOf({ ...layouts.newRegion([0, 0, 1, 1]), point: [0.5, 0.5] }, SIZE);
  close(bounds(disc), [0.5 - (0.125 * 512) / 768, 0.375, 0.5 + (0.125 * 512) / 768, 0.625], 0.01);
});
