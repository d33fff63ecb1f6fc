import assert from "node:assert/strict";
import { test } from "node:test";

import { Released } from "../../web/released.js";

const editor = () => ({
  destroyed: 0,
  destroy() {
    this.destroyed++;
  },
});

test("an editor that its new node takes lives on", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const released = new Released(100);
  const one = editor();
  released.keep(7, one);
  assert.equal(released.take(8), undefined);
  assert.equal(released.take(7), one);
  t.mock.timers.tick(1000);
  assert.deepEqual([one.destroyed, released.size], [0, 0]);
});

test("an editor that nobody takes goes, and so does one whose id comes again", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const released = new Released(100);
  const [one, two] = [editor(), editor()];
  released.keep(7, one);
  t.mock.timers.tick(60);
  released.keep(7, two);
  t.mock.timers.tick(60);
  assert.deepEqual([one.destroyed, two.destroyed, released.size], [1, 0, 1], "each has its own moment");
  t.mock.timers.tick(60);
  assert.deepEqual([one.destroyed, two.destroyed, released.size], [1, 1, 0]);
});

test("what nobody asks otherwise is kept for twenty seconds", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const released = new Released();
  const one = editor();
  released.keep(7, one);
  t.mock.timers.tick(19_999);
  assert.equal(one.destroyed, 0);
  t.mock.timers.tick(1);
  assert.equal(one.destroyed, 1);
});

test("an editor is taken once only", () => {
  const released = new Released();
  const one = editor();
  released.keep(7, one);
  assert.deepEqual([released.take(7), released.take(7), released.size], [one, undefined, 0]);
});
