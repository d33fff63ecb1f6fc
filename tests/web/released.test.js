import assert from "node:assert/strict";
import { test } from "node:test";

import { Released } from "../../web/released.js";

const editor = () => ({ destroyed: 0, destroy() { this.destroyed++; } });

test("an editor that its new node takes lives on", async () => {
  const released = new Released(5);
  const one = editor();
  released.keep(7, one);
  assert.equal(released.take(8), undefined);
  assert.equal(released.take(7), one);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual([one.destroyed, released.size], [0, 0]);
});

test("an editor that nobody takes goes, and so does one whose id comes again", async () => {
  const released = new Released(5);
  const [one, two] = [editor(), editor()];
  released.keep(7, one);
  released.keep(7, two);
  assert.deepEqual([one.destroyed, two.destroyed, released.size], [1, 0, 1]);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual([two.destroyed, released.size], [1, 0]);
});
