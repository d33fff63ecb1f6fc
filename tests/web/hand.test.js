import assert from "node:assert/strict";
import { test } from "node:test";

import { boxesOf, click, drag, drawFrame, fire, labelled, openEditor, phrasesOf, pointer, press, stored, typePhrase } from "./page.js";
import { RegionEditor } from "../../web/editor.js";

const LEFT = [0.125, 0.25, 0.375, 0.75];
const RIGHT = [0.625, 0.25, 0.875, 0.75];
const OVER = [0.25, 0.375, 0.75, 0.625];
const open = (boxes, options) => openEditor(RegionEditor, boxes, options);

function near(actual, expected, within = 2e-6) {
  const [ones, others] = [actual.flat(), expected.flat()];
  assert.equal(ones.length, others.length);
  ones.forEach((value, at) => assert.ok(Math.abs(value - others[at]) <= within, `${actual} is not ${expected}`));
}

const isTyping = (editor) => editor.stage.querySelector(".deig-inplace") !== null;

// ---- mouse and pen ----

test("a drag over nothing draws the next region, and asks for its phrase", () => {
  const editor = open([LEFT]);
  drag(editor, [0.875, 0.75], [0.625, 0.25]);
  assert.equal(editor.selected, 1);
  assert.ok(document.activeElement.classes.has("deig-inplace"));
  typePhrase(editor, "a lamp");
  near(boxesOf(editor), [LEFT, RIGHT]);
  assert.deepEqual(phrasesOf(editor), ["thing 1", "a lamp"]);
  assert.equal(document.activeElement, editor.canvas);
});

test("a drag begins at 4 pixels; a shorter one is a click", () => {
  for (const [by, moved] of [[[3, 0], false], [[0, 3.9], false], [[4, 0], true], [[0, -4], true], [[3, 3], true]]) {
    const editor = open([LEFT]);
    drag(editor, [0.25, 0.5], [0.25 + by[0] / 384, 0.5 + by[1] / 256]);
    assert.deepEqual([editor.host.steps, editor.selected], [moved ? 1 : 0, 0], `${by}`);
    near(boxesOf(editor), [moved ? LEFT.map((edge, at) => edge + by[at % 2] / [384, 256][at % 2]) : LEFT]);
  }
});

test("a drag ends with the last button that is let go, whichever that is", () => {
  const editor = open([LEFT]);
  pointer(editor, "pointerdown", [0.25, 0.5]);
  pointer(editor, "pointermove", [0.5, 0.5]);
  pointer(editor, "pointerup", [0.5, 0.5], { button: 2 });
  assert.deepEqual([editor.isUnderWay, editor.host.steps], [false, 1]);
  near(boxesOf(editor), [[0.375, 0.25, 0.625, 0.75]]);
});

test("a drag that has begun may come back to where it began", () => {
  const editor = open([LEFT]);
  pointer(editor, "pointerdown", [0.25, 0.5]);
  pointer(editor, "pointermove", [0.5, 0.5]);
  pointer(editor, "pointermove", [0.255, 0.5]);
  near(editor.layout.regions[0].box, [0.13, 0.25, 0.38, 0.75]);
});

test("a click selects what it hits, and on nothing lets go of it", () => {
  const editor = open([LEFT, RIGHT]);
  click(editor, [0.75, 0.5]);
  assert.deepEqual([editor.selected, document.activeElement], [1, editor.canvas]);
  click(editor, [0.5, 0.9]);
  assert.equal(editor.selected, -1);
  assert.deepEqual([editor.host.steps, isTyping(editor)], [0, false]);
});

test("Alt and a click go through what lies on top of each other", () => {
  const editor = open([LEFT, OVER]);
  const selected = [false, true, true].map((altKey) => {
    click(editor, [0.3, 0.5], { altKey });
    return editor.selected;
  });
  assert.deepEqual(selected, [1, 0, 1]);
});

test("what is dragged is selected, also below another once it is", () => {
  const editor = open([LEFT, OVER]);
  editor.select(0);
  drag(editor, [0.3, 0.5], [0.3, 0.6]);
  near(boxesOf(editor), [[0.125, 0.35, 0.375, 0.85], OVER]);
  assert.equal(editor.selected, 0);
  pointer(editor, "pointermove", [0.3, 0.4]);
  assert.equal(editor.isUnderWay, false, "and stays once it is let go");
});

test("Shift draws over a region, its handles too", () => {
  const editor = open([LEFT]);
  editor.select(0);
  drag(editor, [0.375, 0.75], [0.875, 0.875], { shiftKey: true });
  assert.equal(editor.selected, 1);
  near(boxesOf(editor), [LEFT, [0.375, 0.75, 0.875, 0.875]]);
});

test("a handle resizes the selected region by what the hand moved, from up to 8 pixels off", () => {
  const editor = open([LEFT]);
  editor.select(0);
  const off = [7.9 / 384, 7.9 / 256];
  drag(editor, [0.375 + off[0], 0.75 + off[1]], [0.5 + off[0], 0.875 + off[1]]);
  near(boxesOf(editor), [[0.125, 0.25, 0.5, 0.875]]);
  drag(editor, [0.125, 0.25 + 0.625 / 2], [0.25, 0.9]);
  near(boxesOf(editor), [[0.25, 0.25, 0.5, 0.875]]);
  drag(editor, [0.5 + 8.5 / 384, 0.875], [0.75, 0.95]);
  assert.equal(editor.selected, 1, "further off, it draws");
});

test("an unselected region has no handles", () => {
  const editor = open([LEFT]);
  drag(editor, [0.37, 0.74], [0.47, 0.64]);
  near(boxesOf(editor), [[0.225, 0.15, 0.475, 0.65]]);
});

test("with snap, drawing, moving and resizing end on the grid", () => {
  const editor = open([LEFT], { snap: true });
  drag(editor, [0.25, 0.5], [0.25 + 11 / 768, 0.5 + 13 / 512]);
  near(boxesOf(editor), [LEFT.map((edge, at) => edge + [8 / 768, 16 / 512][at % 2])]);
  const [, , right, bottom] = boxesOf(editor)[0];
  drag(editor, [right, bottom], [right + 11 / 768, bottom - 13 / 512]);
  near(boxesOf(editor)[0].slice(2), [right + 8 / 768, bottom - 16 / 512]);
  drag(editor, [0.5 + 3 / 768, 0.5], [0.5 + 15 / 768, 0.5 + 18 / 512]);
  near(boxesOf(editor)[1], [0.5, 0.5, 0.5 + 16 / 768, 0.5 + 16 / 512]);
});

test("what is drawn without height has a pixel's", () => {
  const editor = open([]);
  drag(editor, [0.25, 0.5], [0.75, 0.5]);
  near(boxesOf(editor), [[0.25, 0.5, 0.75, 0.5 + 1 / 512]]);
});

test("other buttons draw, move and select nothing", () => {
  for (const more of [{ button: 1 }, { button: 2 }, { button: 5, pointerType: "mouse" }]) {
    const editor = open([LEFT, RIGHT]);
    editor.select(0);
    drag(editor, [0.75, 0.5], [0.5, 0.6], more);
    drag(editor, [0.5, 0.9], [0.9, 0.95], more);
    assert.deepEqual([boxesOf(editor), editor.selected, editor.host.steps], [[LEFT, RIGHT], 0, 0]);
  }
});

test("the middle button is the graph's, the others are not", () => {
  const editor = open([]);
  const stops = [0, 1, 2].map((button) => pointer(editor, "pointerdown", [0.9, 0.9], { button }).stopped);
  assert.deepEqual(stops, [true, false, true]);
});

test("a pointer that is taken away takes back what it had begun", () => {
  const editor = open([LEFT]);
  pointer(editor, "pointerdown", [0.25, 0.5]);
  pointer(editor, "pointermove", [0.5, 0.5]);
  pointer(editor, "pointercancel", [0.5, 0.5]);
  pointer(editor, "pointermove", [0.6, 0.6]);
  pointer(editor, "pointerup", [0.6, 0.6]);
  assert.deepEqual([editor.layout.regions[0].box, editor.host.steps], [LEFT, 0]);
});

test("the pointer's shape says what a press would do", () => {
  const editor = open([LEFT]);
  const at = (point, more) => {
    pointer(editor, "pointermove", point, more);
    return editor.canvas.style.cursor;
  };
  assert.deepEqual([at([0.25, 0.5]), editor.canvas.title], ["move", "thing 1"]);
  assert.deepEqual([at([0.9, 0.9]), editor.canvas.title], ["crosshair", ""]);
  assert.equal(at([0.25, 0.5], { shiftKey: true }), "crosshair");
  editor.select(0);
  const handles = [[0.125, 0.25], [0.25, 0.25], [0.375, 0.25], [0.375, 0.5], [0.375, 0.75], [0.25, 0.75], [0.125, 0.75], [0.125, 0.5]];
  assert.deepEqual(
    handles.map((point) => at(point).replace("-resize", "")),
    ["nwse", "ns", "nesw", "ew", "nwse", "ns", "nesw", "ew"],
  );
  assert.equal(at([0.125, 0.25], { shiftKey: true }), "crosshair");
  assert.equal(at([0.2, 0.5]), "move");
  editor.setTool("brush");
  assert.equal(at([0.25, 0.5]), "crosshair");
});

test("what the pointer is over is drawn stronger until it leaves", () => {
  const editor = open([LEFT]);
  const widths = () => {
    editor.canvas.context.drawn.length = 0;
    drawFrame();
    return editor.canvas.context.drawn.filter((one) => one.what === "strokeRect").map((one) => one.lineWidth);
  };
  pointer(editor, "pointermove", [0.25, 0.5]);
  assert.deepEqual(widths(), [5, 3]);
  pointer(editor, "pointerleave", [0, 0]);
  assert.deepEqual(widths(), [4, 2]);
});

test("the brush is shown under the pointer, and goes with it and with the tool", () => {
  const editor = open([], { brush: 0.25 });
  const circles = () => {
    editor.canvas.context.drawn.length = 0;
    editor.draw();
    drawFrame();
    return editor.canvas.context.drawn.filter((one) => one.what === "stroke").map((one) => one.path[0]);
  };
  editor.setTool("brush");
  pointer(editor, "pointermove", [0.25, 0.5]);
  assert.deepEqual(circles().map((path) => path.slice(1, 4)), [[96, 128, 65], [96, 128, 64]]);
  editor.setTool("point");
  assert.deepEqual(circles().map((path) => path[3]), [33, 32], "a point reaches an eighth of the shorter side");
  editor.setTool("box");
  assert.deepEqual(circles(), []);
  editor.setTool("brush");
  pointer(editor, "pointerleave", [0, 0]);
  assert.deepEqual(circles(), []);
});

test("a double click edits the phrase under it, with the box tool", () => {
  const editor = open([LEFT, RIGHT]);
  editor.select(0);
  const event = pointer(editor, "dblclick", [0.75, 0.5]);
  assert.ok(event.defaultPrevented && event.stopped);
  assert.equal(editor.selected, 1);
  typePhrase(editor, "two");
  assert.deepEqual(phrasesOf(editor), ["thing 1", "two"]);
  pointer(editor, "dblclick", [0.5, 0.95]);
  assert.equal(isTyping(editor), false, "on nothing there is no phrase");
  editor.setTool("brush");
  pointer(editor, "dblclick", [0.75, 0.5]);
  assert.equal(isTyping(editor), false);
});

test("the right button selects and opens the menu there; the menu key leaves the selection", () => {
  const editor = open([LEFT, RIGHT]);
  const opened = [];
  editor.openMenu = (at) => opened.push([editor.selected, at.left, at.bottom]);
  const event = pointer(editor, "contextmenu", [0.75, 0.5], { button: 2 });
  assert.ok(event.defaultPrevented && event.stopped);
  pointer(editor, "contextmenu", [0.25, 0.5], { button: 0 });
  pointer(editor, "contextmenu", [0.5, 0.9], { button: 2 });
  assert.deepEqual(opened, [[1, 100 + 0.75 * 384, 50 + 128], [1, 120, 70], [-1, 292, 50 + 0.9 * 256]]);
});

test("a pen presses from a quarter of the brush to the whole, a mouse the whole", () => {
  const heightOf = (more) => {
    const editor = open([], { brush: 0.2 });
    editor.setTool("brush");
    click(editor, [0.5, 0.5], more);
    const [, top, , bottom] = boxesOf(editor)[0];
    return bottom - top;
  };
  const close = (more, radius) => assert.ok(Math.abs(heightOf(more) - 2 * radius) < 0.012, `${heightOf(more)} is not ${2 * radius}`);
  close({ pointerType: "pen", pressure: 0 }, 0.05);
  close({ pointerType: "pen", pressure: 1 }, 0.2);
  close({ pointerType: "mouse", pressure: 0.5 }, 0.2);
  close({ pointerType: "touch", pressure: 0 }, 0.2);
});

test("a stroke goes through every place that the pointer was at between two frames", () => {
  const editor = open([]);
  editor.setTool("stroke");
  pointer(editor, "pointerdown", [0.25, 0.5]);
  const between = [[0.375, 0.75], [0.5, 0.5]].map(([x, y]) => ({ clientX: 100 + 384 * x, clientY: 50 + 256 * y }));
  pointer(editor, "pointermove", [0.5, 0.5], { getCoalescedEvents: () => between });
  pointer(editor, "pointermove", [0.75, 0.5], { getCoalescedEvents: () => [] });
  pointer(editor, "pointerup", [0.75, 0.5]);
  near(stored(editor)[0].scribble, [[0.25, 0.5], [0.375, 0.75], [0.5, 0.5], [0.75, 0.5]]);
});

test("a tool on the canvas hears its own pointer only", () => {
  const editor = open([]);
  editor.setTool("stroke");
  pointer(editor, "pointerdown", [0.25, 0.5]);
  pointer(editor, "pointermove", [0.9, 0.9], { pointerId: 2 });
  pointer(editor, "pointermove", [0.5, 0.5]);
  pointer(editor, "pointerup", [0.5, 0.5]);
  near(stored(editor)[0].scribble, [[0.25, 0.5], [0.5, 0.5]]);
});

test("Shift begins a new place with every tool", () => {
  for (const tool of ["brush", "stroke", "point"]) {
    const editor = open([LEFT]);
    editor.select(0);
    editor.setTool(tool);
    click(editor, [0.75, 0.5]);
    assert.equal(stored(editor).length, 1, tool);
    click(editor, [0.75, 0.5], { shiftKey: true });
    assert.equal(stored(editor).length, 2, tool);
  }
});

// ---- clipboard ----

test("copy puts the layout on the clipboard, paste takes one from it", async () => {
  const editor = open([LEFT]);
  const given = [];
  const copied = fire(editor.canvas, "copy", { clipboardData: { setData: (...what) => given.push(what) } });
  assert.deepEqual(given, [["text/plain", editor.value]]);
  assert.equal(editor.message.textContent, "Layout copied.");
  const asked = [];
  const text = JSON.stringify({ regions: [{ phrase: "pasted", box: RIGHT }] });
  const getData = (kind) => (asked.push(kind), text);
  const pasted = fire(editor.canvas, "paste", { clipboardData: { getData } });
  assert.ok([copied, pasted].every((event) => event.defaultPrevented && event.stopped));
  await Promise.resolve();
  await new Promise(setImmediate);
  assert.deepEqual([asked, phrasesOf(editor), editor.host.steps], [["text/plain"], ["pasted"], 1]);
});

// ---- keys ----

function keysOf(boxes, selected, options) {
  const editor = open(boxes, options);
  editor.select(selected);
  editor.canvas.focus();
  return editor;
}

test("keys that are the editor's reach nobody else, all others do", () => {
  const taken = (key, more, selected = 0) => {
    keysOf([LEFT], selected);
    const event = press(key, more);
    return event.defaultPrevented && event.stopped;
  };
  const ours = ["Delete", "Backspace", "Enter", "F2", "Insert", "Escape", "PageUp", "PageDown", "n", "N", "[", "]", "r", "b", "e", "s", "p", "ArrowLeft"];
  for (const key of ours) assert.ok(taken(key), key);
  assert.ok(taken("d", { ctrlKey: true }) && taken("d", { metaKey: true }) && taken("ArrowUp", { ctrlKey: true }));
  for (const key of ["x", "d", " ", "Tab", "z"]) assert.ok(!taken(key), key);
  for (const key of ["Enter", "n", "b", "s", "z", "[", "p"]) assert.ok(!taken(key, { ctrlKey: true }) && !taken(key, { metaKey: true }), `Control+${key}`);
  for (const key of ["n", "b", "e"]) assert.ok(!taken(key, { altKey: true }), `Alt+${key}`);
  assert.ok(!taken("ArrowLeft", {}, -1), "with nothing selected the arrows are the graph's");
});

test("each key does what it is for", () => {
  const after = (key, more) => {
    const editor = keysOf([LEFT, RIGHT], 0);
    press(key, more);
    return editor;
  };
  for (const key of ["Delete", "Backspace"]) assert.deepEqual(phrasesOf(after(key)), ["thing 2"]);
  for (const key of ["Enter", "F2"]) assert.ok(isTyping(after(key)), key);
  for (const key of ["n", "N", "Insert"]) near(boxesOf(after(key)).slice(2), [0.35, 0.35, 0.65, 0.65]);
  assert.deepEqual(phrasesOf(after("D", { ctrlKey: true })), ["thing 1", "thing 2", "thing 1"]);
  assert.equal(after("Escape").selected, -1);
  const tools = ["b", "e", "s", "p", "r", "B"].map((key) => after(key).tool);
  assert.deepEqual(tools, ["brush", "eraser", "stroke", "point", "box", "brush"]);
  assert.ok(Math.abs(after("]").host.brush - 0.05) < 1e-9 && Math.abs(after("[").host.brush - 0.032) < 1e-9);
});

test("page keys go through the regions and round, and with Shift move one", () => {
  const go = (key, selected, more) => {
    const editor = keysOf([LEFT, OVER, RIGHT], selected);
    press(key, more);
    return [editor.selected, phrasesOf(editor).map((phrase) => phrase.at(-1)).join("")];
  };
  assert.deepEqual(go("PageUp", 0), [1, "123"]);
  assert.deepEqual(go("PageUp", 2), [0, "123"]);
  assert.deepEqual(go("PageDown", 0), [2, "123"]);
  assert.deepEqual(go("PageDown", 2), [1, "123"]);
  assert.deepEqual([go("PageUp", -1), go("PageDown", -1)], [[0, "123"], [2, "123"]]);
  assert.deepEqual(go("PageUp", 0, { shiftKey: true }), [1, "213"]);
  assert.deepEqual(go("PageDown", 2, { shiftKey: true }), [1, "132"]);
  assert.deepEqual(go("PageUp", 2, { shiftKey: true }), [2, "123"]);
  assert.deepEqual(go("PageDown", 0, { shiftKey: true }), [0, "123"]);
  const empty = keysOf([], -1);
  press("PageUp");
  assert.equal(empty.selected, -1);
});

test("arrow keys move by a pixel, with Shift by eight, on the grid by cells", () => {
  const moved = (key, more, options) => {
    const editor = keysOf([LEFT], 0, options);
    press(key, more);
    const [box] = boxesOf(editor);
    near([box[2] - box[0], box[3] - box[1]], [0.25, 0.5]);
    return [(box[0] - LEFT[0]) * 768, (box[1] - LEFT[1]) * 512];
  };
  near(moved("ArrowLeft"), [-1, 0], 1e-3);
  near(moved("ArrowRight"), [1, 0], 1e-3);
  near(moved("ArrowUp"), [0, -1], 1e-3);
  near(moved("ArrowDown", { shiftKey: true }), [0, 8], 1e-3);
  near(moved("ArrowDown", {}, { snap: true }), [0, 8], 1e-3);
  near(moved("ArrowRight", { shiftKey: true }, { snap: true }), [64, 0], 1e-3);
});

test("Control and arrow keys move the right and lower edges, not over the others", () => {
  const editor = keysOf([LEFT], 0);
  press("ArrowRight", { ctrlKey: true });
  press("ArrowUp", { metaKey: true, shiftKey: true });
  near(boxesOf(editor), [[0.125, 0.25, 0.375 + 1 / 768, 0.75 - 8 / 512]]);
  for (let step = 0; step < 40; step++) press("ArrowLeft", { ctrlKey: true, shiftKey: true });
  near(boxesOf(editor)[0].slice(0, 3), [0.125, 0.25, 0.125 + 1 / 768]);
});

test("a held arrow key is one step, which another key does not end", () => {
  const editor = keysOf([LEFT], 0);
  for (let step = 0; step < 5; step++) fire(editor.canvas, "keydown", { key: "ArrowRight", repeat: step > 0 });
  fire(editor.canvas, "keyup", { key: "Shift" });
  assert.equal(editor.host.steps, 0);
  fire(editor.canvas, "keydown", { key: "ArrowDown" });
  fire(editor.canvas, "keyup", { key: "ArrowRight" });
  assert.equal(editor.host.steps, 1);
  near(boxesOf(editor), [[0.125 + 5 / 768, 0.25 + 1 / 512, 0.375 + 5 / 768, 0.75 + 1 / 512]]);
  press("ArrowLeft");
  near(boxesOf(editor)[0].slice(0, 1), [0.125 + 4 / 768]);
  assert.equal(editor.host.steps, 2);
});

test("Escape takes back an arrow key that is held, and only lets go when nothing is under way", () => {
  const editor = keysOf([LEFT], 0);
  fire(editor.canvas, "keydown", { key: "ArrowRight" });
  press("Escape");
  fire(editor.canvas, "keydown", { key: "ArrowRight" });
  near(editor.layout.regions[0].box, [0.125 + 1 / 768, 0.25, 0.375 + 1 / 768, 0.75]);
  press("Escape");
  fire(editor.canvas, "keyup", { key: "ArrowRight" });
  assert.deepEqual([boxesOf(editor), editor.selected, editor.host.steps], [[LEFT], 0, 0]);
  press("Escape");
  assert.equal(editor.selected, -1);
});

test("an arrow key that is held when the keyboard goes elsewhere is a step", () => {
  const editor = keysOf([LEFT], 0);
  fire(editor.canvas, "keydown", { key: "ArrowRight" });
  editor.prompt.focus();
  assert.equal(editor.host.steps, 1);
});

test("Escape ends a drag before it has moved", () => {
  const editor = keysOf([LEFT], -1);
  pointer(editor, "pointerdown", [0.25, 0.5]);
  press("Escape");
  pointer(editor, "pointermove", [0.5, 0.5]);
  pointer(editor, "pointerup", [0.5, 0.5]);
  assert.deepEqual([boxesOf(editor), editor.selected], [[LEFT], 0]);
});

test("arrow keys carry a tool by 4 pixels, with Shift by 32, as far as the edge", () => {
  const editor = keysOf([], -1);
  press("p");
  press("ArrowRight");
  press("ArrowDown", { shiftKey: true });
  drawFrame();
  const circle = editor.canvas.context.drawn.findLast((one) => one.what === "stroke").path[0];
  near(circle.slice(1, 3), [192 + 2, 128 + 16]);
  press(" ");
  near(stored(editor)[0].point, [0.5 + 4 / 768, 0.5 + 32 / 512]);
  typePhrase(editor, "one");
  for (let step = 0; step < 13; step++) press("ArrowRight", { shiftKey: true });
  for (let step = 0; step < 9; step++) press("ArrowUp", { shiftKey: true });
  press("ArrowLeft");
  press(" ");
  near(stored(editor)[0].point, [1 - 4 / 768, 0]);
});

test("Space puts a tool down and lifts it, held or not", () => {
  const editor = keysOf([], -1);
  press("s");
  fire(editor.canvas, "keydown", { key: " " });
  fire(editor.canvas, "keydown", { key: " ", repeat: true });
  press("ArrowRight", { shiftKey: true });
  assert.equal(editor.host.steps, 0);
  press(" ");
  near(stored(editor)[0].scribble, [[0.5, 0.5], [0.5 + 32 / 768, 0.5]]);
  assert.ok(isTyping(editor));
});

test("Space shows where the tool is", () => {
  const editor = keysOf([], -1);
  press("s");
  press(" ");
  drawFrame();
  const [circle] = editor.canvas.context.drawn.findLast((one) => one.what === "stroke" && one.path[0][0] === "arc").path;
  assert.deepEqual(circle.slice(1, 3), [192, 128]);
});

test("a tool that the keys move begins where the mouse was", () => {
  const editor = keysOf([], -1);
  editor.setTool("point");
  pointer(editor, "pointermove", [0.25, 0.75]);
  press(" ");
  near(stored(editor)[0].point, [0.25, 0.75]);
});

test("with a tool in hand Control and the arrows still move the region's edges", () => {
  const editor = keysOf([LEFT], 0);
  press("b");
  press("ArrowRight", { ctrlKey: true });
  near(boxesOf(editor), [[0.125, 0.25, 0.375 + 1 / 768, 0.75]]);
});

test("another tool takes back what the last had begun", () => {
  const editor = keysOf([LEFT], 0);
  press("b");
  press(" ");
  assert.ok(editor.isUnderWay);
  press("e");
  assert.equal(editor.isUnderWay, false);
  assert.deepEqual(stored(editor), [{ phrase: "thing 1", strength: 1, start_percent: 0, end_percent: 1, box: LEFT }]);
  press(" ");
  press(" ");
  assert.ok(stored(editor)[0].mask);
});

test("a pen's other end erases though the box tool is in hand, and lets go of what the keys had begun", () => {
  const editor = keysOf([LEFT], 0, { brush: 0.2 });
  press("b");
  press(" ");
  editor.setTool("box");
  drag(editor, [0.125, 0.25], [0.375, 0.25], { pointerType: "pen", button: 5, pressure: 1 });
  const [region] = stored(editor);
  near(region.box, [0.125, 0.45, 0.375, 0.75], 0.003);
  assert.deepEqual([editor.tool, editor.host.steps, stored(editor).length], ["box", 1, 1]);
  assert.equal(labelled(editor, "Phrase of region 1").value, "thing 1");
});
