import assert from "node:assert/strict";
import { test } from "node:test";

import { drawLayout } from "../../web/drawing.js";

const VIEW = { width: 400, height: 200 };
const SIZE = { width: 1024, height: 512 };

// A canvas's context that keeps what is written on it, and where: every letter is 6 pixels wide.
function writtenOn(options) {
  const written = [];
  const kept = { textAlign: "start" };
  const answers = {
    measureText: (text) => ({ width: 6 * text.length }),
    fillText: (text, x, y) => written.push({ text, x, y, align: kept.textAlign }),
  };
  const context = new Proxy(kept, {
    get: (target, name) => answers[name] ?? target[name] ?? (() => {}),
    set: (target, name, value) => {
      target[name] = value;
      return true;
    },
  });
  const usual = { view: VIEW, size: SIZE, selected: -1, hovered: -1, background: null, snap: false, wired: [], brush: null };
  drawLayout(context, { layout: { prompt: "", regions: [] }, ...usual, ...options });
  return written;
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
  const tops = [[0, 0.5], [0.4, 0.5], [0, 0.1]].map(([y0, y1]) => writtenOn(layout(region("a", [0, y0, 1, y1])))[0].y - 9.5);
  assert.deepEqual(tops, [0, 80 - 17, 20]);
});

test("a region without a phrase and one too small to be painted say so", () => {
  assert.deepEqual(texts(layout(region(" ", [0, 0, 1, 1]))), ["1", "(no phrase)"]);
  assert.deepEqual(texts(layout(region("a dot", [0, 0, 0.001, 0.001]))), ["1", "\u26a0 a dot"]);
});
