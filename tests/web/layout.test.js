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
