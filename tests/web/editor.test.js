import assert from "node:assert/strict";
import { test } from "node:test";

import { boxesOf, click, clipboard, drag, drawFrame, fire, freshPage, labelled, openEditor, phrasesOf, press, SIZE, stored, type, typePhrase } from "./page.js";
import { RegionEditor } from "../../web/editor.js";
import { Menu } from "../../web/menu.js";

const LEFT = [0.125, 0.25, 0.375, 0.75];
const RIGHT = [0.625, 0.25, 0.875, 0.75];
const OVER = [0.25, 0.375, 0.75, 0.625];
const DISC = { point: [0.25, 0.5] };
const open = (boxes, options) => openEditor(RegionEditor, boxes, options);
const message = (editor) => [editor.message.textContent, editor.message.classes.has("deig-error")];
const field = (editor) => editor.stage.querySelector(".deig-inplace");
const button = (editor, words) => editor.element.find((one) => one.tagName === "button" && one.textContent === words);
const press2 = (editor, label, ...keys) => {
  labelled(editor, label).focus();
  return keys.map((key) => press(key));
};

// ---- steps ----

test("each change is one step of the graph's undo, made while the graph listens", () => {
  const during = [];
  const editor = open([LEFT], {
    change(step) {
      const before = editor.value;
      step();
      during.push(before !== editor.value);
    },
  });
  editor.duplicate(0);
  editor.reorder(0, 1);
  editor.remove(0);
  editor.addInTheMiddle();
  assert.deepEqual(during, [true, true, true, true]);
});

test("what is asked of no region changes nothing", () => {
  const editor = open([LEFT]);
  editor.remove(-1);
  editor.remove(1);
  editor.duplicate(-1);
  editor.reorder(-1, 0);
  editor.reorder(0, 0);
  editor.reorder(0, 5);
  editor.reorder(0, -5);
  editor.editPhrase(-1);
  assert.deepEqual([boxesOf(editor), editor.host.steps, field(editor)], [[LEFT], 0, null]);
});

test("a copy lies in front, 16 pixels down and right, with all that the first has, and is selected", () => {
  const editor = open([LEFT, RIGHT], { places: [{ strength: 2, start_percent: 0.5, ...DISC }] });
  editor.duplicate(0);
  const copy = stored(editor)[2];
  const by = [16 / 768, 16 / 512];
  copy.box.forEach((edge, at) => assert.ok(Math.abs(edge - LEFT[at] - by[at % 2]) < 2e-6));
  copy.point.forEach((edge, at) => assert.ok(Math.abs(edge - DISC.point[at] - by[at % 2]) < 2e-6));
  assert.deepEqual([copy.phrase, copy.strength, copy.start_percent, editor.selected], ["thing 1", 2, 0.5, 2]);
});

test("a region taken out of the middle leaves the next selected, the last the one before", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  editor.select(1);
  editor.remove(1);
  assert.equal(editor.selected, 1);
  editor.remove(1);
  assert.equal(editor.selected, 0);
  editor.remove(0);
  assert.equal(editor.selected, -1);
});

test("reordering stays within the list and the moved one stays selected", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  editor.reorder(0, 9);
  assert.deepEqual([phrasesOf(editor), editor.selected], [["thing 2", "thing 3", "thing 1"], 2]);
  editor.reorder(2, -3);
  assert.deepEqual([phrasesOf(editor), editor.selected], [["thing 1", "thing 2", "thing 3"], 0]);
});

test("what the host loads is shown, with the selection kept as far as it goes", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  editor.select(2);
  editor.say("old");
  editor.value = JSON.stringify({ prompt: "a wall", regions: stored(editor).slice(0, 2) });
  assert.deepEqual([editor.selected, editor.prompt.value, message(editor)[0]], [1, "a wall", ""]);
  editor.value = "{";
  assert.match(message(editor)[0], /^The layout was not loaded, the old one stays\. This is not JSON/);
  assert.deepEqual([message(editor)[1], stored(editor).length, editor.host.steps], [true, 2, 0]);
  editor.say("fine");
  assert.deepEqual(message(editor), ["fine", false]);
});

test("the prompt is a preview while it is typed, and one step when it is left", () => {
  const editor = open([LEFT]);
  type(editor.prompt, "a bright");
  type(editor.prompt, "a bright room");
  assert.deepEqual([editor.layout.prompt, JSON.parse(editor.value).prompt, editor.host.steps], ["a bright room", "a shelf", 0]);
  editor.value = editor.value;
  assert.equal(editor.prompt.value, "a bright room", "what is being typed is not overwritten");
  fire(editor.prompt, "input");
  editor.prompt.blur();
  assert.deepEqual([JSON.parse(editor.value).prompt, editor.host.steps, boxesOf(editor)], ["a bright room", 1, [LEFT]]);
});

test("a layout too large for a workflow file is said so, and a small one not", () => {
  const editor = open([LEFT]);
  const phrase = (length) => editor.apply((layout) => ({ ...layout, regions: [{ ...layout.regions[0], phrase: "x".repeat(length) }] }));
  phrase(99_000);
  assert.deepEqual(message(editor), ["", false]);
  phrase(102_900);
  assert.match(message(editor)[0], /^The layout has 103 thousand characters/);
  phrase(10);
  assert.equal(message(editor)[0], "");
});

test("a message lasts until the next step, not only until something is selected", () => {
  const editor = open([LEFT]);
  editor.say("Layout copied.");
  editor.select(0);
  editor.commit();
  assert.equal(message(editor)[0], "Layout copied.");
  editor.remove(0);
  assert.equal(message(editor)[0], "");
});

test("what comes in by the wire is taken once, and keeps the prompt that is here", () => {
  const editor = open([LEFT]);
  const wired = (prompt) => JSON.stringify({ prompt, regions: [{ phrase: "wired", box: RIGHT }] });
  editor.seed({ layout: wired(""), digest: "d1" });
  const { prompt, incoming } = JSON.parse(editor.value);
  assert.deepEqual([phrasesOf(editor), prompt, incoming, editor.host.steps], [["wired"], "a shelf", "d1", 1]);
  assert.match(message(editor)[0], /^1 region came in by the wire/);
  editor.remove(0);
  editor.seed({ layout: wired(""), digest: "d1" });
  assert.deepEqual([phrasesOf(editor), editor.host.steps], [[], 2]);
  editor.seed({ layout: wired("a wall"), digest: "d2" });
  assert.deepEqual([phrasesOf(editor), JSON.parse(editor.value).prompt, JSON.parse(editor.value).incoming], [["wired"], "a wall", "d2"]);
});

test("a text that is wired in is said to win, whatever is done here", () => {
  const editor = open([LEFT], { isWired: () => true });
  editor.remove(0);
  assert.match(message(editor)[0], /^A wired text takes the place/);
});

// ---- text in and out ----

test("pasting says how much came, and what is wrong with what did not", async () => {
  const editor = open([LEFT]);
  const text = (...boxes) => JSON.stringify({ prompt: "a wall", regions: boxes.map((box) => ({ phrase: "p", box })) });
  assert.equal(await editor.take(text(RIGHT)), true);
  assert.deepEqual(message(editor), ["1 region pasted.", false]);
  await editor.take(text(LEFT, RIGHT));
  assert.deepEqual([message(editor)[0], boxesOf(editor), JSON.parse(editor.value).prompt], ["2 regions pasted.", [LEFT, RIGHT], "a wall"]);
  await editor.take(text());
  assert.equal(message(editor)[0], "0 regions pasted.");
  editor.host.readText = async () => {
    throw new Error("Line 1 is odd.");
  };
  assert.equal(await editor.take("odd"), false);
  assert.deepEqual([message(editor), editor.host.steps], [["Not pasted, the old layout stays. Line 1 is odd.", true], 3]);
});

test("what is pasted wins over what came in by the wire before", async () => {
  const editor = open([LEFT]);
  const text = JSON.stringify({ regions: [{ phrase: "pasted", box: RIGHT }], incoming: "elsewhere" });
  await editor.take(text);
  assert.equal(JSON.parse(editor.value).incoming, "elsewhere");
  editor.seed({ layout: JSON.stringify({ regions: [] }), digest: "d1" });
  await editor.take(text);
  assert.deepEqual([JSON.parse(editor.value).incoming, phrasesOf(editor)], ["d1", ["pasted"]]);
});

test("the menu's copy and paste go by the clipboard", async () => {
  clipboard.isOpen = true;
  const editor = open([LEFT]);
  await editor.copy();
  assert.deepEqual([clipboard.text, message(editor)], [editor.value, ["Layout copied.", false]]);
  editor.remove(0);
  await editor.paste();
  assert.deepEqual(boxesOf(editor), [LEFT]);
});

test("where the clipboard is closed, copy says what to do and paste asks for the text", async () => {
  const editor = open([LEFT]);
  clipboard.isOpen = false;
  await editor.copy();
  await editor.paste();
  clipboard.isOpen = true;
  assert.match(message(editor)[0], /press Ctrl\+C/);
  assert.equal(message(editor)[1], true);
  const asked = labelled(editor, "Layout to paste");
  assert.equal(document.activeElement, asked);
  assert.ok(press("Delete").stopped, "keys typed there are no commands");
  asked.value = "{";
  await button(editor, "Read").onclick();
  assert.ok(labelled(editor, "Layout to paste"), "it stays until the text is right");
  asked.value = JSON.stringify({ regions: [{ phrase: "typed", box: RIGHT }] });
  await button(editor, "Read").onclick();
  assert.deepEqual([phrasesOf(editor), labelled(editor, "Layout to paste")], [["typed"], null]);
  assert.equal(document.activeElement, editor.canvas);
});

test("the field for a text closes by Escape and by Cancel, and takes nothing", async () => {
  for (const close of [() => press("Escape"), (editor) => button(editor, "Cancel").onclick()]) {
    const editor = open([LEFT]);
    clipboard.isOpen = false;
    await editor.paste();
    clipboard.isOpen = true;
    labelled(editor, "Layout to paste").value = JSON.stringify({ regions: [] });
    press("a");
    assert.ok(labelled(editor, "Layout to paste"));
    close(editor);
    assert.deepEqual([labelled(editor, "Layout to paste"), boxesOf(editor), document.activeElement], [null, [LEFT], editor.canvas]);
  }
});

// ---- a phrase in place ----

test("a phrase is a preview while it is typed; Enter and leaving keep it, Escape does not", () => {
  const end = { Enter: () => press("Enter"), Escape: () => press("Escape"), leaving: () => field(editor).blur() };
  let editor;
  for (const [how, kept] of [["Enter", "a cup"], ["Escape", "thing 2"], ["leaving", "a cup"]]) {
    editor = open([LEFT, RIGHT]);
    editor.editPhrase(1);
    assert.deepEqual([editor.selected, field(editor).value, document.activeElement], [1, "thing 2", field(editor)]);
    type(field(editor), "a cup");
    assert.deepEqual([editor.layout.regions[1].phrase, phrasesOf(editor)], ["a cup", ["thing 1", "thing 2"]]);
    end[how]();
    assert.deepEqual([phrasesOf(editor), editor.host.steps, field(editor)], [["thing 1", kept], kept === "a cup" ? 1 : 0, null], how);
    assert.equal(editor.layout.regions[1].phrase, kept);
  }
});

test("Shift and Enter go on in the phrase, and no key there is a command", () => {
  const editor = open([LEFT]);
  editor.editPhrase(0);
  const events = [press("Enter", { shiftKey: true }), press("Delete"), press("n"), press("ArrowLeft")];
  assert.ok(events.every((event) => event.stopped && !event.defaultPrevented));
  assert.ok(field(editor));
  const ended = press("Enter");
  assert.ok(ended.stopped && ended.defaultPrevented);
  assert.equal(document.activeElement, editor.canvas);
});

test("another phrase opened keeps the one before", () => {
  const editor = open([LEFT, RIGHT]);
  editor.editPhrase(0);
  type(field(editor), "a cup");
  editor.editPhrase(1);
  typePhrase(editor, "a jug");
  assert.deepEqual(phrasesOf(editor), ["a cup", "a jug"]);
});

test("the phrase's field lies over its box, at least 160 pixels wide, within the canvas", () => {
  const placeOf = (box) => {
    const editor = open([box]);
    editor.canvas.box = { ...editor.canvas.box, left: 10, top: 20 };
    editor.editPhrase(0);
    return ["left", "top", "width"].map((side) => Number.parseFloat(field(editor).style[side]));
  };
  assert.deepEqual(placeOf([0.25, 0.5, 0.75, 0.75]), [10 + 96, 20 + 128, 192]);
  assert.deepEqual(placeOf([0.25, 0.5, 0.3, 0.75]), [10 + 96, 20 + 128, 160]);
  assert.deepEqual(placeOf([0.9, 0.95, 1, 1]), [10 + 384 - 160, 20 + 256 - 40, 160]);
  assert.deepEqual(placeOf([0, 0, 1, 1]), [10, 20, 384]);
});

// ---- toolbar ----

test("the toolbar's buttons work on the selected region", () => {
  const after = (words, selected = 1) => {
    const editor = open([LEFT, OVER, RIGHT]);
    editor.select(selected);
    button(editor, words).click();
    return editor;
  };
  assert.deepEqual(phrasesOf(after("Back")), ["thing 2", "thing 1", "thing 3"]);
  assert.deepEqual(phrasesOf(after("Back", 2)), ["thing 1", "thing 3", "thing 2"]);
  assert.deepEqual(phrasesOf(after("Front")), ["thing 1", "thing 3", "thing 2"]);
  assert.deepEqual(phrasesOf(after("Duplicate")), ["thing 1", "thing 2", "thing 3", "thing 2"]);
  assert.deepEqual(phrasesOf(after("Remove")), ["thing 1", "thing 3"]);
  const added = after("Add");
  assert.deepEqual([stored(added).at(-1).box, added.selected, document.activeElement], [[0.35, 0.35, 0.65, 0.65], 3, field(added)]);
  assert.equal(after("Remove", -1).host.steps, 0);
});

test("the tool in hand is the pressed button, and only what has a size has it set", () => {
  const editor = open([]);
  const pressed = () => editor.toolButtons.filter((one) => one.attributes["aria-pressed"] === "true").map((one) => one.textContent);
  const seen = ["Brush", "Eraser", "Stroke", "Point", "Box"].map((words) => {
    button(editor, words).click();
    return [...pressed(), editor.brushField.disabled];
  });
  assert.deepEqual(seen, [["Brush", false], ["Eraser", false], ["Stroke", false], ["Point", true], ["Box", true]]);
  assert.equal(document.activeElement, editor.canvas);
});

test("snap is a step, and its button says whether it is on", () => {
  const editor = open([]);
  const pressed = () => editor.snapButton.attributes["aria-pressed"];
  assert.equal(pressed(), "false");
  editor.snapButton.click();
  assert.deepEqual([pressed(), editor.host.snap, editor.host.steps], ["true", true, 1]);
  editor.snapButton.click();
  assert.deepEqual([pressed(), editor.host.snap], ["false", false]);
});

test("the brush goes from a two-hundredth to a quarter, by the slider and by steps of a quarter", () => {
  const editor = open([]);
  const slid = (value) => {
    editor.brushField.value = value;
    fire(editor.brushField, "input");
    return editor.host.brush;
  };
  assert.deepEqual([slid(0), slid(0.5), slid(1)], [0.005, 0.0354, 0.25]);
  editor.stepBrush(1);
  assert.equal(editor.host.brush, 0.25);
  editor.stepBrush(-1);
  assert.equal(editor.host.brush, 0.2);
  assert.ok(Math.abs(Number(editor.brushField.value) - Math.log(40) / Math.log(50)) < 1e-9);
  editor.setBrush(0.005);
  editor.stepBrush(-1);
  assert.deepEqual([editor.host.brush, editor.brushField.value], [0.005, "0"]);
  editor.brushField.focus();
  assert.ok(press("ArrowLeft").stopped, "its keys move the slider only");
});

// ---- what is shown ----

test("the canvas is as sharp as the graph's zoom and the screen, from one to three", () => {
  const sides = (zoom, screen) => {
    const editor = open([]);
    editor.canvas.zoom = zoom;
    window.devicePixelRatio = screen;
    editor.draw();
    drawFrame();
    window.devicePixelRatio = 1;
    const scale = editor.canvas.context.drawn.filter((one) => one.what === "scale").at(-1).at;
    return [editor.canvas.width, editor.canvas.height, ...scale];
  };
  assert.deepEqual(sides(1, 1), [384, 256, 1, 1]);
  assert.deepEqual(sides(1, 2), [768, 512, 2, 2]);
  assert.deepEqual(sides(2, 1), [384, 256, 2, 2]);
  assert.deepEqual(sides(0.5, 1), [768, 512, 1, 1]);
  assert.deepEqual(sides(2, 2), [576, 384, 3, 3]);
});

test("many changes are drawn once a frame, and a canvas not yet on the page is tried again for a while", (t) => {
  const editor = open([LEFT]);
  const changes = [() => editor.preview((layout) => layout), () => editor.hover(0), () => editor.setTool("brush"), () => editor.showBrush([0.5, 0.5]), () => editor.cancel()];
  for (const change of changes) {
    change();
    assert.equal(drawFrame(), 1, `${change}`);
  }
  for (let step = 0; step < 5; step++) editor.draw();
  assert.equal(drawFrame(), 1);
  assert.equal(drawFrame(), 0);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { box } = editor.canvas;
  for (let round = 0; round < 2; round++) {
    editor.canvas.box = { ...box, width: 0 };
    editor.draw();
    let tries = 0;
    while (drawFrame()) {
      tries++;
      t.mock.timers.tick(100);
    }
    assert.equal(tries, 21);
    editor.canvas.box = box;
    editor.canvas.context.drawn.length = 0;
    editor.draw();
    drawFrame();
    assert.ok(editor.canvas.context.drawn.length);
  }
});

test("the canvas says to a screen reader what is on it and what is selected", () => {
  const editor = open([LEFT, RIGHT], { phrases: ["a cup", ""] });
  const said = (index) => {
    editor.select(index);
    return editor.canvas.attributes["aria-label"];
  };
  assert.equal(said(-1), "Canvas with 2 regions, none selected");
  assert.equal(said(0), "Canvas with 2 regions, 1 selected: a cup");
  assert.equal(said(1), "Canvas with 2 regions, 2 selected: no phrase");
  assert.equal(editor.canvas.style["--aspect"], SIZE.width / SIZE.height);
});

test("a picture behind and what is wired in are drawn, until there is none", () => {
  const editor = open([]);
  const drawn = () => {
    editor.canvas.context.drawn.length = 0;
    assert.equal(drawFrame(), 1);
    return editor.canvas.context.drawn;
  };
  const picture = {};
  editor.setBackground(picture);
  assert.deepEqual(drawn().find((one) => one.what === "drawImage").at, [picture, 0, 0, 384, 256]);
  editor.setBackground(null);
  assert.ok(!drawn().some((one) => one.what === "drawImage"));
  editor.setWired([{ phrase: "fog", box: LEFT }]);
  assert.ok(drawn().some((one) => one.text === "fog"));
});

// ---- the menu ----

test("the menu has what can be done with a region only where one is selected", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  const words = () => editor.menu.element.children.map((one) => one.textContent);
  editor.openMenu({ left: 0, bottom: 0 });
  assert.deepEqual(words(), ["Copy layout", "Paste layout", "Clear"]);
  editor.menu.close();
  editor.select(0);
  editor.openMenu({ left: 0, bottom: 0 });
  assert.deepEqual(words().slice(3), ["Edit phrase", "Bring forward", "Send back", "Duplicate", "Remove"]);
});

test("each word of the menu does what it says, to the selected region", () => {
  const after = (words) => {
    const editor = open([LEFT, OVER, RIGHT]);
    editor.select(1);
    editor.openMenu({ left: 0, bottom: 0 });
    button(editor.menu, words).click();
    assert.equal(editor.menu.element.hidden, true);
    return editor;
  };
  assert.deepEqual(phrasesOf(after("Bring forward")), ["thing 1", "thing 3", "thing 2"]);
  assert.deepEqual(phrasesOf(after("Send back")), ["thing 2", "thing 1", "thing 3"]);
  assert.deepEqual(phrasesOf(after("Duplicate")), ["thing 1", "thing 2", "thing 3", "thing 2"]);
  assert.deepEqual(phrasesOf(after("Remove")), ["thing 1", "thing 3"]);
  assert.equal(field(after("Edit phrase")).value, "thing 2");
  const cleared = after("Clear");
  assert.deepEqual([phrasesOf(cleared), JSON.parse(cleared.value).prompt, cleared.host.steps, cleared.selected], [[], "a shelf", 1, -1]);
});

test("the toolbar's dots open the menu beneath them", () => {
  const editor = open([]);
  editor.element.box = { left: 0, top: 0, width: 440, height: 680 };
  const dots = button(editor, "\u22ef");
  dots.box = { left: 300, top: 10, width: 20, height: 18 };
  dots.click();
  assert.deepEqual([editor.menu.element.style.left, editor.menu.element.style.top], ["300px", "28px"]);
});

function openMenu(at, holder = { left: 100, top: 50, width: 400, height: 300 }, zoom = 1) {
  freshPage();
  const menu = new Menu();
  const closed = [];
  const done = [];
  const around = document.createElement("div");
  around.append(menu.element);
  document.body.replaceChildren(around);
  around.box = holder;
  around.zoom = zoom;
  menu.element.box = { left: 0, top: 0, width: 80, height: 60 };
  menu.open([["one", () => done.push(closed.length)], ["two", () => done.push("two")], ["three", () => done.push("three")]], at, () => closed.push(true));
  return { menu, closed, done };
}

test("a menu lies at the point, whatever the graph's zoom, and within the node", () => {
  const place = (...given) => {
    const { style } = openMenu(...given).menu.element;
    return [style.left, style.top];
  };
  assert.deepEqual(place([150, 120]), ["50px", "70px"]);
  assert.deepEqual(place([490, 340]), ["320px", "240px"]);
  assert.deepEqual(place([0, 0]), ["0px", "0px"]);
  assert.deepEqual(place([200, 150], { left: 100, top: 50, width: 800, height: 600 }, 2), ["50px", "50px"]);
});

test("a menu has the keyboard, its keys are its own, and its first word is ready", () => {
  const { menu, closed, done } = openMenu([0, 0]);
  assert.equal(document.activeElement.textContent, "one");
  assert.deepEqual([press("Delete").stopped, press("ArrowDown").defaultPrevented, press("x").defaultPrevented], [true, true, false]);
  document.activeElement.click();
  assert.deepEqual([done, closed.length, menu.element.hidden], [["two"], 1, true]);
});

test("the arrow keys go through a menu's words and round", () => {
  openMenu([0, 0]);
  const at = ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"].map((key) => (press(key), document.activeElement.textContent));
  assert.deepEqual(at, ["two", "three", "one", "three", "two"]);
});

test("a word closes the menu before it does what it says", () => {
  const { done } = openMenu([0, 0]);
  document.activeElement.click();
  assert.deepEqual(done, [1]);
});

test("a menu closes by Escape, by Tab and by a press elsewhere, once, and does nothing", () => {
  for (const close of [() => press("Escape"), () => press("Tab"), () => fire(document.body, "pointerdown")]) {
    const { menu, closed, done } = openMenu([0, 0]);
    fire(menu.element.children[1], "pointerdown");
    assert.equal(menu.element.hidden, false, "a press on it leaves it open");
    close();
    assert.equal(menu.element.hidden, true);
    menu.close();
    fire(document.body, "pointerdown");
    assert.deepEqual([closed.length, done], [1, []]);
  }
});

test("the canvas has the keyboard again when the menu goes", () => {
  const editor = open([LEFT]);
  editor.openMenu({ left: 0, bottom: 0 });
  press("Escape");
  assert.equal(document.activeElement, editor.canvas);
});

test("an editor that goes closes its menu", () => {
  const editor = open([LEFT]);
  editor.openMenu({ left: 0, bottom: 0 });
  editor.destroy();
  assert.equal(editor.menu.element.hidden, true);
});

// ---- the list ----

const row = (editor, index) => editor.list.rows[index];

test("the list has a row for each region, in the order of the layout", () => {
  const editor = open([LEFT, RIGHT], { phrases: ["a cup", " "], places: [{ strength: 0.5, start_percent: 0, end_percent: 0.25 }] });
  const values = (index) => Object.values(row(editor, index).inputs).map((one) => one.value);
  assert.deepEqual([values(0), values(1)], [["a cup", "0.5", "0", "0.25"], [" ", "1", "0", "1"]]);
  assert.deepEqual([row(editor, 0).inputs.phrase.title, editor.list.heads.hidden], ["a cup", false]);
  const missing = [0, 1].map((index) => row(editor, index).inputs.phrase.classes.has("deig-missing"));
  assert.deepEqual(missing, [false, true]);
  editor.remove(0);
  assert.deepEqual([editor.list.rows.length, editor.list.body.children.length, values(0)[0]], [1, 1, " "]);
  editor.remove(0);
  assert.equal(editor.list.heads.hidden, true);
});

test("a row's number has the colour of its region, and another line after eight", () => {
  const editor = open(Array.from({ length: 33 }, () => LEFT));
  const badge = (index) => labelled(editor, `Region ${index + 1}, change its order`);
  assert.deepEqual([badge(0).textContent, badge(9).textContent], ["1", "10"]);
  assert.deepEqual([badge(0), badge(7), badge(8)].map((one) => one.style.backgroundColor), ["#e69f00", "#b8b8b8", "#e69f00"]);
  const lines = [0, 7, 8, 16, 24, 32].map((index) => badge(index).style.borderStyle);
  assert.deepEqual(lines, ["solid", "solid", "dashed", "dotted", "double", "solid"]);
});

test("the selected row is marked, and selecting a field selects its region", () => {
  const editor = open([LEFT, RIGHT]);
  const marked = () => editor.list.rows.map((one) => one.element.classes.has("deig-selected"));
  labelled(editor, "Strength of region 2").focus();
  assert.deepEqual([editor.selected, marked()], [1, [false, true]]);
  editor.select(0);
  assert.deepEqual(marked(), [true, false]);
});

test("a row warns of a region too small to be seen", () => {
  const editor = open([LEFT, [0, 0, 7 / 768, 1]]);
  assert.deepEqual([row(editor, 0).warning.hidden, row(editor, 1).warning.hidden], [true, false]);
});

test("what is typed in the list is shown at once and one step when it is left", () => {
  const editor = open([LEFT, RIGHT]);
  const strength = labelled(editor, "Strength of region 2");
  type(strength, "1.5");
  assert.deepEqual([editor.layout.regions[1].strength, stored(editor)[1].strength], [1.5, 1]);
  type(strength, "2");
  press("Enter");
  assert.deepEqual([stored(editor)[1].strength, editor.host.steps, document.activeElement], [2, 1, document.body]);
  const phrase = labelled(editor, "Phrase of region 1");
  type(phrase, "a cup");
  phrase.blur();
  assert.deepEqual([phrasesOf(editor), editor.host.steps], [["a cup", "thing 2"], 2]);
  type(strength, "");
  strength.blur();
  assert.deepEqual([stored(editor)[1].strength, strength.value], [1, "1"], "what is emptied is as at first");
});

test("what is being typed in the list is not overwritten", () => {
  const editor = open([LEFT]);
  const strength = labelled(editor, "Strength of region 1");
  type(strength, "");
  editor.select(0);
  assert.equal(strength.value, "");
});

test("Escape in the list leaves the field, with nothing under way", () => {
  const editor = open([LEFT]);
  type(labelled(editor, "Strength of region 1"), "1");
  press("Escape");
  assert.deepEqual([document.activeElement, editor.isUnderWay, editor.host.steps], [document.body, false, 0]);
});

test("keys typed in a field of the list are no commands", () => {
  const editor = open([LEFT, RIGHT]);
  assert.ok(press2(editor, "Phrase of region 1", "Delete", "n", "ArrowLeft").every((event) => event.stopped && !event.defaultPrevented));
  assert.equal(stored(editor).length, 2);
});

test("a value that no layout may hold is told with its region, and the old one shown again", () => {
  for (const [label, text, told, key, old] of [
    ["Strength of region 2", "-1", /^Region 2 strength should be a number from 0 to/, "strength", 1],
    ["End of region 2", "1.5", /^Region 2 end_percent should be a number from 0 to 1/, "end_percent", 1],
  ]) {
    const editor = open([LEFT, RIGHT]);
    const input = labelled(editor, label);
    type(input, text);
    input.blur();
    assert.match(message(editor)[0], told);
    assert.deepEqual([message(editor)[1], stored(editor)[1][key], input.value, editor.host.steps], [true, old, `${old}`, 0]);
    type(input, text);
    input.isTyped = false;
    fire(input, "change"); // as Enter makes one, with the keyboard still there
    assert.deepEqual([input.value, document.activeElement, editor.isUnderWay], [`${old}`, document.body, false]);
  }
});

test("the list's cross removes its region", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  labelled(editor, "Remove region 2").click();
  assert.deepEqual(phrasesOf(editor), ["thing 1", "thing 3"]);
});

function withRows(count) {
  const editor = open(Array.from({ length: count }, () => LEFT));
  editor.list.rows.forEach((one, index) => (one.element.box = { left: 0, top: 300 + 20 * index, width: 400, height: 20 }));
  return editor;
}

test("dragging a number moves its region to the row it is let go over", () => {
  const order = (from, y) => {
    const editor = withRows(3);
    const badge = labelled(editor, `Region ${from + 1}, change its order`);
    const at = { pointerId: 1, clientY: y };
    fire(badge, "pointerdown", { pointerId: 1, clientY: 300 + 20 * from });
    assert.equal(editor.selected, from);
    fire(badge, "pointermove", at);
    const targets = editor.list.rows.map((one) => Number(one.element.classes.has("deig-target"))).join("");
    fire(badge, "pointerup", at);
    assert.ok(!editor.list.rows.some((one) => one.element.classes.has("deig-target")));
    return [targets, phrasesOf(editor).map((phrase) => phrase.at(-1)).join(""), editor.selected];
  };
  assert.deepEqual(order(0, 345), ["001", "231", 2]);
  assert.deepEqual(order(0, 339.5), ["010", "213", 1]);
  assert.deepEqual(order(2, 300), ["100", "312", 0]);
  assert.deepEqual(order(1, 325), ["000", "123", 1]);
  assert.deepEqual(order(0, 360), ["000", "123", 0], "let go beneath the list, it stays");
  assert.deepEqual(order(2, 299), ["000", "123", 2], "and above it");
});

test("a pointer that only passes over a number marks no row", () => {
  const editor = withRows(2);
  fire(labelled(editor, "Region 1, change its order"), "pointermove", { pointerId: 1, clientY: 325 });
  assert.ok(!editor.list.rows.some((one) => one.element.classes.has("deig-target")));
});

test("keys on a number move its region, with the keyboard, or remove it", () => {
  const editor = open([LEFT, OVER, RIGHT]);
  const [down] = press2(editor, "Region 1, change its order", "ArrowDown");
  assert.deepEqual([phrasesOf(editor), down.stopped, down.defaultPrevented], [["thing 2", "thing 1", "thing 3"], true, true]);
  assert.equal(document.activeElement.textContent, "2");
  press("ArrowUp");
  assert.deepEqual([phrasesOf(editor), document.activeElement.textContent], [["thing 1", "thing 2", "thing 3"], "1"]);
  const [removed] = press2(editor, "Region 3, change its order", "Delete");
  assert.deepEqual([phrasesOf(editor), removed.stopped], [["thing 1", "thing 2"], true]);
  const [other] = press2(editor, "Region 1, change its order", "Tab");
  assert.deepEqual([other.stopped, other.defaultPrevented], [false, false]);
});

test("the list scrolls no further than the selected row needs", () => {
  const editor = withRows(10);
  editor.list.body.box = { left: 0, top: 300, width: 400, height: 60 };
  const scrolled = (index) => {
    editor.select(index);
    return editor.list.body.scrollTop;
  };
  assert.deepEqual([scrolled(2), scrolled(4), scrolled(3), scrolled(0), scrolled(9), scrolled(-1)], [0, 40, 40, 0, 140, 140]);
});

test("the wheel scrolls the list where it is longer than its room, else it is the graph's", () => {
  const editor = open([LEFT]);
  Object.assign(editor.list.body, { scrollHeight: 100, box: { ...editor.list.body.box, height: 100 } });
  assert.equal(fire(editor.list.body, "wheel").stopped, false);
  editor.list.body.scrollHeight = 101;
  assert.equal(fire(editor.list.body, "wheel").stopped, true);
});

test("a region is drawn, named, moved and removed, and each is a step", () => {
  const editor = open([]);
  drag(editor, [0.25, 0.25], [0.5, 0.5]);
  typePhrase(editor, "a cup");
  drag(editor, [0.3, 0.3], [0.4, 0.3]);
  click(editor, [0.4, 0.3]);
  press("Delete");
  assert.deepEqual([editor.host.steps, stored(editor)], [4, []]);
});

test("Escape in the list brings the old value back", () => {
  const editor = open([LEFT]);
  const strength = labelled(editor, "Strength of region 1");
  type(strength, "");
  editor.select(0);
  assert.equal(strength.value, "", "what is being typed is not overwritten");
  type(strength, "4");
  press("Escape");
  assert.deepEqual([strength.value, editor.isUnderWay, editor.host.steps], ["1", false, 0]);
  assert.equal(document.activeElement, document.body);
});
