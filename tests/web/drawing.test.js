import assert from "node:assert/strict";
import { test } from "node:test";

import { drawLayout } from "../../web/drawing.js";
import { recorder } from "./page.js";

const VIEW = { width: 400, height: 200 };
const SIZE = { width: 1024, height: 512 };

// All that is drawn, in its order.
function drawnOn(options) {
  const context = recorder();
  const usual = { view: VIEW, size: SIZE, selected: -1, hovered: -1, background: null, snap: false, wired: [], brush: null };
  drawLayout(context, { layout: { prompt: "", regions: [] }, ...usual, ...options });
  return context.drawn;
}

// What is written on the canvas, and where.
function writtenOn(options) {
  const written = drawnOn(options).filter(({ what }) => what === "text");
  return written.map(({ text, x, y, textAlign: align }) => ({ text, x, y, align }));
}

const region = (phrase, box) => ({ phrase, box, strength: 1, start_percent: 0, end_percent: 1 });
const texts = (options) => writtenOn(options).map((one) => one.text);
const layout = (...regions) => ({ layout: { prompt: "", regions } });

test("the hint stands in the middle of a canvas with nothing on it", () => {
  assert.deepEqual(writtenOn({}), [{ text: "Drag to draw a region", x: 200, y: 100, align: "center" }]);
  assert.deepEqual(texts({ wired: [region("a cup", [0, 0, 1, 1])] }), ["a cup"]);
  assert.deepEqual(texts(layout(region("a cup", [0, 0, 1, 1]))), ["1", "a cup"]);
});

test("what comes in by a wire has its phrase at its lower edge, however narrow", () => {
  const [wide, narrow] = writtenOn({ wired: [region("a cup", [0.5, 0, 1, 0.5]), region("a tall lamp", [0, 0, 0.01, 1])] });
  assert.deepEqual([wide.text, wide.x, wide.y], ["a cup", 204, 91.5]);
  assert.equal(narrow.text, "a tal\u2026");
});

test("a label has a quarter of the canvas, and only the one in hand in a crowd", () => {
  const narrow = (count) => layout(...Array.from({ length: count }, () => region("a tall brass lamp", [0.1, 0, 0.12, 1])));
  assert.deepEqual(texts(narrow(1)), ["1", "a tall brass\u2026"]);
  assert.deepEqual(texts({ ...narrow(1), selected: 0 }), ["1", "a tall brass lamp"]);
  assert.deepEqual(texts(narrow(12)).filter((text) => text.startsWith("a")), []);
  assert.deepEqual(texts({ ...narrow(12), hovered: 5 }).filter((text) => text.startsWith("a")), ["a tall brass\u2026"]);
});

test("a label stays on the canvas, and beside a box that it would hide", () => {
  const [number] = writtenOn(layout(region("a cup", [0.99, 0, 1, 1])));
  assert.equal(number.x, 400 - (6 + 8) - (5 * 6 + 8) + 4);
  const tops = [[0, 0.5], [0.4, 0.5], [0.1, 0.2], [0, 0.1]].map(([y0, y1]) => writtenOn(layout(region("a", [0, y0, 1, y1])))[0].y - 9.5);
  assert.deepEqual(tops, [0, 80 - 17, 20 - 17, 20]);
});

test("a region without a phrase and one too small to be painted say so", () => {
  assert.deepEqual(texts(layout(region(" ", [0, 0, 1, 1]))), ["1", "(no phrase)"]);
  assert.deepEqual(texts(layout(region("a dot", [0, 0, 0.001, 0.001]))), ["1", "\u26a0 a dot"]);
});

const only = (options, ...kinds) => drawnOn(options).filter((one) => kinds.includes(one.what));
const BOX = [0.25, 0.5, 0.5, 0.75];
const INNER = [100, 100, 100, 50]; // the box on the canvas: left, top, width, height

test("the picture lies over the ground, the grid over it, and what is wired beneath what is drawn here", () => {
  const picture = {};
  const drawn = drawnOn({ background: picture, snap: true, wired: [region("fog", BOX)], ...layout(region("a cup", BOX)) });
  assert.deepEqual(drawn.slice(0, 3).map(({ what, at }) => [what, ...at]), [
    ["clearRect", 0, 0, 400, 200],
    ["fillRect", 0, 0, 400, 200],
    ["drawImage", picture, 0, 0, 400, 200],
  ]);
  assert.equal(drawn[3].what, "stroke");
  assert.deepEqual(drawn.filter((one) => one.what === "text").map((one) => one.text), ["fog", "1", "a cup"]);
});

test("a box has its colour on a dark line; in hand or under the pointer both are wider", () => {
  const lines = (options) => only({ ...layout(region("a", BOX)), ...options }, "strokeRect").map(({ lineWidth, strokeStyle, at }) => [lineWidth, strokeStyle, at]);
  const dark = "rgba(0, 0, 0, 0.75)";
  assert.deepEqual(lines({}), [[4, dark, INNER], [2, "#e69f00", INNER]]);
  for (const strong of [{ selected: 0 }, { hovered: 0 }]) assert.deepEqual(lines(strong), [[5, dark, INNER], [3, "#e69f00", INNER]]);
  const filled = (options) => only({ ...layout(region("a", BOX)), ...options }, "fillRect")[1];
  assert.deepEqual([filled({}).at, filled({}).fillStyle, filled({ selected: 0 }).fillStyle], [INNER, "#e69f0018", "#e69f0030"]);
});

test("the ninth region's line is dashed by its width, beneath it the dark one is whole", () => {
  const regions = Array.from({ length: 9 }, () => region("a", BOX));
  const lines = only(layout(...regions), "strokeRect").map((one) => one.dash);
  assert.deepEqual([lines[15], lines[16], lines[17]], [[], [], [10, 6]]);
  const labels = only(layout(...regions), "text", "fillRect");
  assert.ok(labels.slice(-5).every((one) => one.dash.length === 0));
});

test("the region in hand is drawn over the others, its label last", () => {
  const three = layout(region("one", BOX), region("two", BOX), region("three", BOX));
  const colours = only({ ...three, selected: 0 }, "strokeRect").filter((_, at) => at % 2).map((one) => one.strokeStyle);
  assert.deepEqual(colours, ["#56b4e9", "#009e73", "#e69f00"]);
  assert.deepEqual(texts({ ...three, selected: 0 }), ["2", "two", "3", "three", "1", "one"]);
});

test("only the region in hand has its eight handles, white with a dark edge, 8 pixels wide", () => {
  const handles = (options) => only({ ...layout(region("a", BOX)), ...options }, "fill");
  assert.deepEqual(handles({ hovered: 0 }), []);
  const found = handles({ selected: 0 });
  const corners = found.map(({ path }) => path[0].slice(1)).map(([x, y, width, height]) => [x + width / 2, y + height / 2, width, height]);
  const at = [[100, 100], [150, 100], [200, 100], [200, 125], [200, 150], [150, 150], [100, 150], [100, 125]];
  assert.deepEqual(corners, at.map((point) => [...point, 8, 8]));
  assert.deepEqual([found[0].fillStyle, found[0].dash], ["#fff", []]);
});

test("the grid has a line for each cell, or for as many as are 6 pixels apart, and none at the edges", () => {
  const lines = (size, view = VIEW) => {
    const [grid] = only({ snap: true, size, view }, "stroke");
    const upright = grid.path.filter(([what, , y]) => what === "moveTo" && y === 0);
    const level = grid.path.filter(([what, x]) => what === "moveTo" && x === 0);
    const ends = grid.path.filter(([what]) => what === "lineTo");
    return { upright: upright.map(([, x]) => x), level: level.map(([, , y]) => y), ends: [ends[0][2], ends.at(-1)[1]] };
  };
  const fine = lines({ width: 64, height: 32 });
  assert.deepEqual(fine, { upright: [50.5, 100.5, 150.5, 200.5, 250.5, 300.5, 350.5], level: [50.5, 100.5, 150.5], ends: [200, 400] });
  assert.equal(lines({ width: 1024, height: 512 }).upright[0], 6.5, "16 pixels of the picture are 6.25 of the canvas");
  assert.equal(lines({ width: 1024, height: 512 }).upright.length, 63);
  assert.equal(lines({ width: 512, height: 256 }).upright[0], 6.5, "8 are as many");
  assert.deepEqual(only({ size: { width: 64, height: 32 } }, "stroke"), []);
});

test("a stroke and a point are drawn as wide as they reach, half clear, in the region's colour", () => {
  const strokes = (more) => only(layout({ ...region("a", BOX), ...more }), "stroke");
  const [line] = strokes({ scribble: [[0.25, 0.5], [0.5, 0.75]], radius: 0.1 });
  assert.deepEqual(line.path, [["lineTo", 100, 100], ["lineTo", 200, 150]]);
  assert.deepEqual([line.lineWidth, line.lineCap, line.globalAlpha, line.strokeStyle], [40, "round", 0.5, "#e69f00"]);
  assert.equal(strokes({ scribble: [[0.25, 0.5], [0.5, 0.75]] })[0].lineWidth, 8);
  const [dot] = strokes({ point: [0.5, 0.75] });
  assert.deepEqual([dot.path, dot.lineWidth], [[["lineTo", 200, 150], ["lineTo", 200, 150]], 50]);
  assert.equal(strokes({ point: [0.5, 0.75], radius: 0.25 })[0].lineWidth, 100);
  assert.equal(strokes({ scribble: [[0.5, 0.5]], point: [0.1, 0.1] })[0].path[0][1], 200, "a stroke comes before a point");
  assert.deepEqual(strokes({}), []);
  const after = only(layout({ ...region("a", BOX), point: [0.5, 0.75] }), "strokeRect");
  assert.ok(after.every((one) => one.globalAlpha === 1 && one.lineCap === "butt"));
});

test("a mask is drawn over the whole canvas, half clear, tinted where it is", () => {
  const mask = { size: [1, 2], counts: [1, 1] };
  const tinted = (index) => {
    const regions = Array.from({ length: index + 1 }, (_, at) => ({ ...region("a", BOX), ...(at === index ? { mask } : {}) }));
    const drawn = drawnOn(layout(...regions));
    const image = drawn.find((one) => one.what === "drawImage");
    const canvas = image.at[0];
    const [{ at }] = canvas.context.drawn;
    assert.deepEqual([image.at.slice(1), image.globalAlpha, [canvas.width, canvas.height]], [[0, 0, 400, 200], 0.5, [2, 1]]);
    assert.ok(drawn.filter((one) => one.what === "strokeRect").every((one) => one.globalAlpha === 1));
    return { canvas, cells: [...at[0].data] };
  };
  const first = tinted(0);
  assert.deepEqual(first.cells, [0xe6, 0x9f, 0, 0, 0xe6, 0x9f, 0, 255]);
  assert.equal(tinted(0).canvas, first.canvas, "it is painted once");
  assert.deepEqual(tinted(1).cells, [0x56, 0xb4, 0xe9, 0, 0x56, 0xb4, 0xe9, 255]);
});

test("what is wired is grey: its place, its dotted box and its phrase", () => {
  const drawn = drawnOn({ wired: [{ ...region("fog", BOX), point: [0.5, 0.5] }] }).slice(2);
  const grey = "#c8c8c8";
  const [place, box, phrase] = drawn;
  assert.deepEqual([place.what, place.strokeStyle], ["stroke", grey]);
  assert.deepEqual([box.what, box.at, box.strokeStyle, box.lineWidth, box.dash], ["strokeRect", INNER, grey, 1, [2, 4]]);
  assert.deepEqual([phrase.text, phrase.fillStyle], ["fog", grey]);
  assert.equal(drawn.length, 3);
});

test("the brush is a circle of its size in the picture, white in black", () => {
  const circles = only({ brush: { point: [0.25, 0.5], radius: 0.1 } }, "stroke");
  assert.deepEqual(
    circles.map(({ path, strokeStyle }) => [...path[0].slice(1, 5), strokeStyle]),
    [[100, 100, 21, 0, "#000"], [100, 100, 20, 0, "#fff"]],
  );
});

test("a label's number lies on the region's colour, and its words are red where there are none", () => {
  const parts = (phrase) => only(layout(region(phrase, [0.25, 0, 0.75, 1])), "fillRect", "text").slice(2);
  const [ground, badge, number, words] = parts("a cup");
  assert.deepEqual([ground.at, badge.at, badge.fillStyle], [[100, 0, 14 + 38, 17], [100, 0, 14, 17], "#e69f00"]);
  assert.deepEqual([number.x, number.y, words.x, words.y, words.fillStyle], [104, 9.5, 118, 9.5, "#fff"]);
  assert.equal(parts(" ")[3].fillStyle, "#ffb4a8");
});

test("a label is as long as its box allows, cut by an ellipsis, on one line", () => {
  const text = (phrase, width) => texts(layout(region(phrase, [0, 0, width / 400, 1])))[1];
  assert.equal(text("a tall brass lamp", 22 + 17 * 6), "a tall brass lamp");
  assert.equal(text("a tall brass lamp!!", 22 + 18 * 6), "a tall brass lamp\u2026");
  assert.equal(text("a \n\t cup", 400), "a cup");
  assert.equal(text("x".repeat(1000), 4e4).length, 400);
});

test("a label near the right or lower edge stays whole on the canvas", () => {
  const [, badge] = only(layout(region("a", [0.25, 0.97, 0.5, 1])), "fillRect").slice(1);
  assert.equal(badge.at[1], 0.97 * 200 - 17);
  const low = only({ ...layout(region("a", [0, 0, 1, 1])), view: { width: 400, height: 10 } }, "text")[0];
  assert.equal(low.y, 9.5, "and never above it");
  const crowded = only(layout(region("x".repeat(80), [0, 0.25, 1, 0.75])), "fillRect").slice(2);
  assert.equal(crowded[0].at[0], 0);
});

test("the hint is legible on a picture, and what is drawn after it stands as ever", () => {
  const [, behind] = only({ background: {} }, "fillRect");
  assert.deepEqual(behind.at, [(400 - 142) / 2, 88, 142, 24]);
  assert.equal(only({}, "fillRect").length, 1);
  const [circle] = only({ brush: { point: [0, 0], radius: 0.1 } }, "stroke");
  assert.equal(circle.textAlign, "start");
});
