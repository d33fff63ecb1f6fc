import assert from "node:assert/strict";
import { test } from "node:test";

import * as layouts from "../../web/layout.js";

const SIZE = { width: 512, height: 512 };
const CUP = { phrase: "a cup", box: [0.1, 0.2, 0.3, 0.4], strength: 1.5, start_percent: 0.1, end_percent: 0.9 };
const CAT = { phrase: "<img src=x onerror=alert(1)>", box: [0.5, 0.5, 1, 1], strength: 1, start_percent: 0, end_percent: 1 };
const TEXT = layouts.writeLayout({ prompt: 'a "shelf"', regions: [CUP, CAT] });

test("a layout survives its text, one region a line", () => {
  assert.deepEqual(layouts.parseLayout(TEXT), { prompt: 'a "shelf"', regions: [CUP, CAT] });
  assert.equal(TEXT.split("\n").filter((line) => line.includes('"box"')).length, 2);
  assert.deepEqual(layouts.parseLayout(layouts.writeLayout(layouts.EMPTY_LAYOUT)), layouts.EMPTY_LAYOUT);
});

test("what is left out takes its default, and other places are kept", () => {
  const [region] = layouts.parseLayout('{"regions": [{"phrase": "", "box": [0, 0, 1, 1], "point": [0.5, 0.5]}]}').regions;
  assert.deepEqual(region, { phrase: "", box: [0, 0, 1, 1], point: [0.5, 0.5], strength: 1, start_percent: 0, end_percent: 1 });
});

test("a zero is a number and not left out", () => {
  const off = { ...CUP, strength: 0, start_percent: 0, end_percent: 0 };
  assert.deepEqual(layouts.parseLayout(layouts.writeLayout({ prompt: "", regions: [off] })).regions, [off]);
});

test("broken layouts are refused with place and reason", () => {
  const refused = [
    ["{", /not JSON/],
    ["[]", /list "regions"/],
    ["null", /list "regions"/],
    ['{"version": 2, "regions": []}', /version 2/],
    ['{"regions": [], "pormpt": ""}', /pormpt/],
    ['{"regions": [], "prompt": 3}', /prompt should be text/],
    ['{"regions": [7]}', /regions\[0\] should be an object/],
    ['{"regions": [{"phrase": 1, "box": [0, 0, 1, 1]}]}', /regions\[0\]\.phrase/],
    ['{"regions": [{"phrase": "a", "box": [0, 0, 1]}]}', /regions\[0\]\.box should be four numbers/],
    ['{"regions": [{"phrase": "a", "box": [0, 0, 1, null]}]}', /regions\[0\]\.box should be four numbers/],
    ['{"regions": [{"phrase": "a", "box": [0.5, 0, 0.5, 1]}]}', /regions\[0\]\.box is/],
    ['{"regions": [{"phrase": "a", "box": [0, 0, 1, 1.2]}]}', /regions\[0\]\.box is/],
    ['{"regions": [{"phrase": "a", "box": [0, 0, 1, 1], "strength": -1}]}', /strength/],
    ['{"regions": [{"phrase": "a", "box": [0, 0, 1, 1], "start_percent": 0.9, "end_percent": 0.1}]}', /ends before/],
  ];
  for (const [text, told] of refused) assert.throws(() => layouts.parseLayout(text), told);
});

test("a broken text leaves the old layout", () => {
  const editing = new layouts.Editing();
  editing.load(TEXT);
  assert.throws(() => editing.load('{"regions": [{}]}'), /regions\[0\]/);
  assert.equal(layouts.writeLayout(editing.layout), TEXT);
});

test("a hundred previews are one step, and can be taken back whole", () => {
  const editing = new layouts.Editing();
  editing.load(TEXT);
  for (let step = 1; step <= 100; step++) {
    editing.preview((layout) => layouts.withBox(layout, 0, [0.1, 0.2, 0.3 + step / 1000, 0.4], SIZE));
  }
  assert.equal(editing.layout.regions[0].box[2], 0.4);
  assert.equal(editing.done.regions[0].box[2], 0.3, "what is stored waits for the end of the drag");
  editing.cancel();
  assert.equal(layouts.writeLayout(editing.layout), TEXT);
  editing.preview((layout) => layouts.without(layout, 1));
  assert.equal(editing.commit(), true);
  assert.equal(editing.layout.regions.length, 1);
});

test("a step that changes nothing is no step", () => {
  const editing = new layouts.Editing();
  editing.load(TEXT);
  assert.equal(editing.commit(), false);
  editing.preview((layout) => layouts.withRegion(layout, 0, { phrase: "a cup" }));
  assert.equal(editing.commit(), false);
});

test("changes return another layout and leave the first alone", () => {
  const layout = layouts.parseLayout(TEXT);
  assert.deepEqual(layouts.withOrder(layout, 0, 1).regions, [CAT, CUP]);
  assert.deepEqual(layouts.withAdded(layout, CAT, 0).regions, [CAT, CUP, CAT]);
  assert.deepEqual(layouts.without(layout, 0).regions, [CAT]);
  assert.equal(layouts.withRegion(layout, 0, { strength: 0 }).regions[0].strength, 0);
  assert.equal(layouts.writeLayout(layout), TEXT);
});

test("a preview begins from what is done, not from the preview before", () => {
  const editing = new layouts.Editing();
  editing.load(TEXT);
  for (let step = 0; step < 3; step++) editing.preview((layout) => layouts.withAdded(layout, CAT));
  assert.equal(editing.layout.regions.length, 3);
});

test("a loaded layout ends the change under way", () => {
  const editing = new layouts.Editing();
  editing.preview((layout) => layouts.withAdded(layout, CAT));
  editing.load(TEXT);
  assert.equal(editing.isUnderWay, false);
  assert.equal(layouts.writeLayout(editing.layout), TEXT);
  assert.equal(editing.commit(), false);
});

test("a box too thin for six digits is saved whole, and loads", () => {
  const thin = { ...CUP, box: [0.3, 0.2, 0.3 + 2e-8, 0.4] };
  const [region] = layouts.parseLayout(layouts.writeLayout({ prompt: "", regions: [thin] })).regions;
  assert.deepEqual(region.box, thin.box);
});

test("what the layout began with is kept", () => {
  const layout = layouts.parseLayout('{"regions": [], "incoming": "5f"}');
  assert.equal(layout.incoming, "5f");
  assert.deepEqual(layouts.parseLayout(layouts.writeLayout(layout)), layout);
  assert.throws(() => layouts.parseLayout('{"regions": [], "incoming": 5}'), /incoming should be text/);
});

test("a box is never thinner than a pixel; its point and its mask go with it", () => {
  const region = { ...CUP, box: [0, 0, 0.5, 0.5], point: [0.25, 0.5], mask: { size: [2, 2], counts: [0, 1, 3] } };
  const layout = { prompt: "", regions: [region] };
  const [moved] = layouts.withBox(layout, 0, [0.5, 0.5, 1, 1], SIZE).regions;
  assert.deepEqual(moved.point, [0.75, 1]);
  assert.deepEqual(moved.mask, { size: [2, 2], counts: "31" });
  assert.equal(layouts.withBox(layout, 0, [0, 0, 0.5, 0.5], SIZE), layout, "an untouched box keeps its mask");
  assert.deepEqual(layouts.withBox(layout, 0, [0.5, 0.5, 0.5, 0.5], SIZE).regions[0].box, [0.5, 0.5, 0.5 + 1 / 512, 0.5 + 1 / 512]);
});

test("each message names the one that is wrong", () => {
  const second = (change) => () => layouts.parseLayout(JSON.stringify({ regions: [CUP, { ...CUP, ...change }] }));
  const told = [
    [{ strength: 1e6 + 1 }, "regions[1].strength should be a number from 0 to 1000000."],
    [{ strength: "1" }, "regions[1].strength should be a number from 0 to 1000000."],
    [{ start_percent: -0.1 }, "regions[1].start_percent should be a number from 0 to 1."],
    [{ end_percent: 1.1 }, "regions[1].end_percent should be a number from 0 to 1."],
    [{ start_percent: 0.95 }, "regions[1] ends before it starts."],
    [{ box: [0, 0, 2, 1] }, "regions[1].box is [0,0,2,1]; edges lie in 0 to 1, with x0 < x1 and y0 < y1."],
    [{ bxo: 1 }, 'regions[1] has "bxo", which is not one of phrase, box, strength, start_percent, end_percent, mask, scribble, point, radius.'],
    [{ mask: {} }, "regions[1].mask cannot be read: size should be [height, width] in whole numbers."],
  ];
  for (const [change, message] of told) assert.throws(second(change), { message });
  assert.throws(() => layouts.parseLayout('{"regions": [], "promt": ""}'), { message: 'the layout has "promt", which is not one of version, prompt, regions, incoming.' });
  assert.throws(() => layouts.parseLayout('{"regions": [], "version": 7}'), { message: "The layout has version 7, but this editor reads version 1." });
});

test("a box that is turned over, empty or outside is refused", () => {
  for (const box of [[-0.1, 0, 1, 1], [0, -0.1, 1, 1], [0, 0, 1.1, 1], [0, 0, 1, 1.1], [0.6, 0, 0.5, 1], [0, 0.6, 1, 0.5], [0, 0.5, 1, 0.5], [0, 0, 1, 1, 1], ["0", 0, 1, 1]]) {
    assert.throws(() => layouts.parseLayout(JSON.stringify({ regions: [{ ...CUP, box }] })), /box/, `${box}`);
  }
});

test("what lies just within the limits is taken", () => {
  const edge = { phrase: "", box: [0, 0, 1, 1], strength: 1e6, start_percent: 0.5, end_percent: 0.5 };
  assert.deepEqual(layouts.parseLayout(JSON.stringify({ version: 1, prompt: null, regions: [edge], incoming: null })), { prompt: "", regions: [edge] });
  const [first] = layouts.parseLayout(JSON.stringify({ regions: [{ ...edge, strength: null, start_percent: null, end_percent: null }] })).regions;
  assert.deepEqual([first.strength, first.start_percent, first.end_percent], [1, 0, 1]);
  for (const ends of [[0, 0], [1, 1]]) layouts.parseLayout(JSON.stringify({ regions: [{ ...edge, start_percent: ends[0], end_percent: ends[1] }] }));
});

test("a region that is no object is refused as such", () => {
  for (const entry of ["null", "[]", '"a"']) assert.throws(() => layouts.parseLayout(`{"regions": [${entry}]}`), /regions\[0\] should be an object/);
});

test("edges are written with six digits, and all the rest as it is", () => {
  const region = { ...CUP, box: [1 / 3, 0.1234567, 2 / 3, 1], strength: 1 / 3 };
  const text = layouts.writeLayout({ prompt: 'two\n"lines"', regions: [region, CUP], incoming: "5f" });
  assert.equal(
    text,
    `{
  "version": 1,
  "prompt": "two\\n\\"lines\\"",
  "incoming": "5f",
  "regions": [
    {"phrase":"a cup","box":[0.333333,0.123457,0.666667,1],"strength":${1 / 3},"start_percent":0.1,"end_percent":0.9},
    {"phrase":"a cup","box":[0.1,0.2,0.3,0.4],"strength":1.5,"start_percent":0.1,"end_percent":0.9}
  ]
}`,
  );
  assert.equal(layouts.writeLayout(layouts.EMPTY_LAYOUT), '{\n  "version": 1,\n  "prompt": "",\n  "regions": []\n}');
  const flat = { ...CUP, box: [0.1, 0.3, 0.2, 0.3 + 2e-8] };
  assert.deepEqual(layouts.parseLayout(layouts.writeLayout({ prompt: "", regions: [flat] })).regions[0].box, flat.box);
});

test("a new region has no words, full strength and all of the steps", () => {
  assert.deepEqual(layouts.newRegion([0, 0, 1, 1]), { phrase: "", box: [0, 0, 1, 1], strength: 1, start_percent: 0, end_percent: 1 });
});

test("changes of one region and of the list leave all else as it was", () => {
  const layout = { prompt: "p", regions: [CUP, CAT, CUP], incoming: "5f" };
  const changed = layouts.withRegion(layout, 1, { phrase: "a dog" });
  assert.deepEqual(changed, { ...layout, regions: [CUP, { ...CAT, phrase: "a dog" }, CUP] });
  for (const other of [layouts.withAdded(layout, CAT), layouts.without(layout, 1), layouts.withOrder(layout, 0, 1)]) {
    assert.deepEqual([other.prompt, other.incoming], ["p", "5f"]);
  }
  assert.deepEqual(layouts.withAdded(layout, CAT).regions, [CUP, CAT, CUP, CAT]);
});

test("a stroke goes with its box", () => {
  const layout = { prompt: "", regions: [{ ...CUP, box: [0, 0, 0.5, 0.5], scribble: [[0, 0.25], [0.5, 0.5]] }] };
  assert.deepEqual(layouts.withBox(layout, 0, [0.5, 0, 1, 1], SIZE).regions[0].scribble, [[0.5, 0.5], [1, 1]]);
});

const WIDE = { width: 1000, height: 500 };
const placed = (change, box = [0.25, 0.25, 0.75, 0.75]) => change({ prompt: "", regions: [{ ...layouts.newRegion(box), mask: {}, scribble: [[0, 0]], point: [0, 0], radius: 1 }] }).regions[0];
const near = (box, expected) => expected.forEach((edge, at) => assert.ok(Math.abs(box[at] - edge) < 1e-9, `${box} is not ${expected}`));

test("a new stroke's and point's box is as large as they reach, within the picture", () => {
  const stroke = placed((layout) => layouts.withScribble(layout, 0, [[0.5, 0.3], [0.3, 0.9]], 0.2, WIDE, true));
  near(stroke.box, [0.3 - 0.1, 0.3 - 0.2, 0.5 + 0.1, 1]);
  assert.deepEqual([stroke.radius, stroke.mask, stroke.point], [0.2, undefined, undefined]);
  const point = placed((layout) => layouts.withPoint(layout, 0, [0.5, 0.1], WIDE, true));
  near(point.box, [0.5 - 0.0625, 0, 0.5 + 0.0625, 0.225]);
  assert.deepEqual([point.point, point.radius, point.mask, point.scribble], [[0.5, 0.1], undefined, undefined, undefined]);
});

test("a box that was drawn for a stroke stays if the line is in it, and else grows to its reach", () => {
  const around = (...points) => placed((layout) => layouts.withScribble(layout, 0, points, 0.1, WIDE, false)).box;
  assert.deepEqual(around([0.25, 0.25], [0.75, 0.75]), [0.25, 0.25, 0.75, 0.75]);
  near(around([0.5, 0.5], [0.2, 0.5]), [0.15, 0.25, 0.75, 0.75]);
  near(around([0.5, 0.5], [0.8, 0.5]), [0.25, 0.25, 0.85, 0.75]);
  near(around([0.5, 0.5], [0.5, 0.2]), [0.25, 0.1, 0.75, 0.75]);
  near(around([0.5, 0.5], [0.5, 0.8]), [0.25, 0.25, 0.75, 0.9]);
  assert.deepEqual(placed((layout) => layouts.withPoint(layout, 0, [0.7, 0.7], WIDE, false)).box, [0.25, 0.25, 0.75, 0.75]);
});

test("what is painted takes the place of stroke and point", () => {
  const grid = { height: 2, width: 2, cells: new Uint8Array([0, 1, 0, 0]) };
  const painted = placed((layout) => layouts.withGrid(layout, 0, grid));
  assert.deepEqual([painted.box, painted.scribble, painted.point, painted.radius], [[0.5, 0, 1, 0.5], undefined, undefined, undefined]);
});

test("a step that is done is no longer under way", () => {
  const editing = new layouts.Editing();
  editing.preview((layout) => layouts.withAdded(layout, CAT));
  editing.commit();
  assert.equal(editing.isUnderWay, false);
});
