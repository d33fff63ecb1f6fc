import assert from "node:assert/strict";
import { register } from "node:module";
import { test } from "node:test";

import { boxesOf, drawFrame, phrasesOf, stored } from "./page.js";

// The host's own modules, which the pack imports by their place on the server.
const HOST = `
  const has = (name, text) => ({ url: "data:text/javascript," + encodeURIComponent(text), shortCircuit: true });
  export const resolve = (name, context, next) =>
    name.endsWith("/scripts/app.js") ? has(name, "export const app = globalThis.app;")
    : name.endsWith("/scripts/api.js") ? has(name, "export const api = globalThis.api;")
    : next(name, context);
`;
register(`data:text/javascript,${encodeURIComponent(HOST)}`);

const heard = [];
let extension;
globalThis.app = {
  registerExtension: (one) => (extension = one),
  canvas: { emitBeforeChange: () => heard.push("before"), emitAfterChange: () => heard.push("after") },
};
globalThis.api = { apiURL: (path) => `/api${path}` };
globalThis.Image = class {
  set src(address) {
    Image.last = { image: this, address };
  }
};
await import("../../web/deig.js");

const BOX = [0.25, 0.25, 0.5, 0.5];
const layout = (phrase, more) => JSON.stringify({ prompt: "", regions: [{ phrase, box: BOX }], ...more });

function makeNode(id, { width = 768, height = 512, links = {} } = {}) {
  const node = {
    id,
    comfyClass: "DEIG_RegionEditor",
    size: [100, 900],
    properties: {},
    graph: { setDirtyCanvas: () => heard.push("dirty") },
    widgets: [{ name: "width", value: width }, { name: "height", value: height }],
    inputs: ["width", "height", "layout", "incoming"].map((name) => ({ name, link: links[name] ?? null })),
    setSize(size) {
      this.size = size;
    },
    addDOMWidget(name, type, element, options) {
      const widget = { name, type, element, options };
      this.widgets.push(widget);
      return widget;
    },
  };
  const { widget } = extension.getCustomWidgets().DEIG_REGIONS_EDITOR(node, "layout");
  extension.nodeCreated(node);
  return { node, widget };
}

// The editor behind a widget, which shows its state on the canvas and in the list.
const aspectOf = ({ widget }) => widget.element.querySelector(".deig-canvas").style["--aspect"];
const words = ({ widget }) => widget.element.querySelector(".deig-message").textContent;
const link = ({ node }, name) => node.inputs.find((input) => input.name === name);
const press = ({ widget }, words) => widget.element.find((one) => one.textContent === words).click();

test("the widget's value is the layout, read and written", () => {
  const { widget } = makeNode(1);
  widget.options.setValue(layout("a cup"));
  const text = widget.options.getValue();
  assert.deepEqual([phrasesOf({ value: text }), boxesOf({ value: text })], [["a cup"], [BOX]]);
  assert.deepEqual([widget.options.getMinHeight(), widget.options.hideOnZoom], [460, false]);
  assert.deepEqual(widget.options.selectOn, ["focusin"]);
});

test("a new node is made large enough, and one of another kind is left alone", () => {
  assert.deepEqual(makeNode(1).node.size, [440, 900]);
  const other = { comfyClass: "KSampler", size: [10, 10], setSize: () => assert.fail() };
  extension.nodeCreated(other);
});

test("the canvas follows width and height as they are set", () => {
  const made = makeNode(1, { width: 600, height: 300 });
  assert.equal(aspectOf(made), 2);
  made.node.widgets[0].value = 900;
  made.node.widgets[0].callback(900);
  assert.equal(aspectOf(made), 3);
  made.node.widgets[1].value = 450;
  made.node.widgets[1].callback(450);
  assert.equal(aspectOf(made), 2);
});

test("a side that is not known is 512", () => {
  const made = makeNode(1, { width: 1024, height: 256 });
  made.node.widgets.splice(1);
  made.node.deigRefresh();
  assert.equal(aspectOf(made), 2);
});

test("a wired side is that of the last run, each for itself, as long as it is wired", () => {
  const made = makeNode(1, { width: 512, height: 512, links: { width: 7 } });
  assert.equal(aspectOf(made), 1, "before the first run it is not known");
  made.node.onExecuted({ deig_size: [1024, 64] });
  assert.equal(aspectOf(made), 2);
  link(made, "width").link = null;
  made.node.onConnectionsChange();
  assert.equal(aspectOf(made), 1);
  link(made, "height").link = 0;
  made.node.onConnectionsChange();
  assert.equal(aspectOf(made), 8, "a link may have the number 0");
});

test("what the node itself does on such events is done too", () => {
  const done = [];
  const made = makeNode(1);
  made.node.widgets[0].callback = undefined;
  made.node.onRemoved = undefined;
  const again = { ...made.node, widgets: [{ name: "width", value: 1, callback: (...given) => done.push(given) }, { name: "height", value: 1 }] };
  again.onExecuted = (...given) => (done.push(given), "answer");
  extension.getCustomWidgets().DEIG_REGIONS_EDITOR(again, "layout");
  extension.nodeCreated(again);
  assert.equal(again.onExecuted({}), "answer");
  again.widgets[0].callback(8);
  assert.deepEqual(done, [[{}], [8]]);
});

test("a run brings what is wired in once, and goes on showing what is here", () => {
  const made = makeNode(1);
  made.widget.options.setValue(layout("mine"));
  const incoming = { layout: layout("wired"), digest: "d1" };
  made.node.onExecuted({});
  made.node.onExecuted();
  assert.deepEqual(phrasesOf({ value: made.widget.options.getValue() }), ["mine"]);
  made.node.onExecuted({ deig_incoming: [incoming] });
  assert.deepEqual(phrasesOf({ value: made.widget.options.getValue() }), ["wired"]);
  made.widget.options.setValue(layout("mine again", { incoming: "d1" }));
  made.node.onExecuted({ deig_incoming: [incoming] });
  assert.deepEqual(phrasesOf({ value: made.widget.options.getValue() }), ["mine again"]);
});

test("a run's picture is asked for by its name, never an old one from the browser's store", () => {
  const made = makeNode(1);
  made.node.onExecuted({ deig_background: [{ filename: "a b.png", type: "temp", subfolder: "" }] });
  const { address } = Image.last;
  assert.match(address, /^\/api\/view\?filename=a\+b\.png&type=temp&subfolder=&rand=0\.\d+$/);
  made.node.onExecuted({ deig_background: [{ filename: "a b.png", type: "temp", subfolder: "" }] });
  assert.notEqual(Image.last.address, address);
});

test("a run's picture lies behind the regions once it is there, until a run has none or the node is made anew", () => {
  let made = makeNode(31);
  const canvas = made.widget.element.querySelector(".deig-canvas");
  canvas.box = { left: 0, top: 0, width: 384, height: 256 };
  const behind = () => {
    drawFrame();
    const last = canvas.context.drawn.splice(0);
    return last.filter((one) => one.what === "drawImage").map((one) => one.at[0]);
  };
  const run = (output) => made.node.onExecuted(output);
  const shown = { deig_background: [{ filename: "a.png", type: "temp", subfolder: "" }] };
  run(shown);
  const { image } = Image.last;
  assert.deepEqual(behind(), [], "it has not come yet");
  image.onload();
  assert.deepEqual(behind(), [image]);
  run({});
  assert.deepEqual(behind(), []);
  run(shown);
  Image.last.image.onload();
  assert.equal(behind().length, 1);
  made.node.onRemoved();
  made = makeNode(31);
  made.node.onConfigure();
  assert.deepEqual(behind(), []);
});

test("a step is told to the graph before and after, also where it fails", () => {
  const made = makeNode(1);
  heard.length = 0;
  press(made, "Snap");
  assert.deepEqual([heard, made.node.properties.deig_snap], [["before", "dirty", "after"], true]);
  heard.length = 0;
  made.node.graph = null;
  press(made, "Snap");
  assert.deepEqual([heard, made.node.properties.deig_snap], [["before", "after"], false]);
  heard.length = 0;
  made.node.graph = {
    setDirtyCanvas() {
      throw new Error("no");
    },
  };
  assert.throws(() => press(made, "Snap"));
  assert.deepEqual(heard, ["before", "after"]);
});

test("a text wired into layout is told of", () => {
  const made = makeNode(1);
  assert.equal(words(made), "");
  link(made, "incoming").link = 3;
  made.node.onConnectionsChange();
  assert.equal(words(made), "");
  link(made, "layout").link = 3;
  made.node.onConnectionsChange();
  assert.match(words(made), /^A wired text takes the place/);
});

// Paste by the field that opens where the browser keeps its clipboard closed.
async function pasted(made, answer) {
  const asked = [];
  api.fetchApi = async (...given) => {
    asked.push(given);
    return answer;
  };
  const canvas = made.widget.element.querySelector(".deig-canvas");
  const event = { type: "paste", preventDefault() {}, stopPropagation() {}, clipboardData: { getData: () => "a cup: 0 0 1 1" } };
  canvas.hear(event);
  await new Promise(setImmediate);
  return asked;
}

test("what is pasted is read by the server, for the picture's size", async () => {
  const made = makeNode(1);
  const [[path, { method, body, headers }]] = await pasted(made, { ok: true, status: 200, json: async () => ({ layout: layout("read") }) });
  assert.deepEqual([path, method, headers], ["/deig/read_layout", "POST", { "Content-Type": "application/json" }]);
  assert.deepEqual(JSON.parse(body), { text: "a cup: 0 0 1 1", width: 768, height: 512 });
  assert.deepEqual(phrasesOf({ value: made.widget.options.getValue() }), ["read"]);
});

test("why the server does not read a text is told, and so is that it failed", async () => {
  const made = makeNode(1);
  await pasted(made, { ok: false, status: 400, json: async () => ({ error: "Line 1 is odd." }) });
  assert.match(words(made), /Line 1 is odd\.$/);
  await pasted(made, { ok: false, status: 500, json: async () => assert.fail() });
  assert.match(words(made), /The server answered 500\.$/);
});

test("the node that undo makes anew goes on with the removed one's editor and its own text", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e6 });
  const before = makeNode(7);
  before.widget.options.setValue(layout("before"));
  before.node.onRemoved();
  const after = makeNode(7, { width: 300, height: 100 });
  after.widget.options.setValue(layout("after"));
  const element = before.widget.element;
  after.node.onConfigure();
  assert.equal(after.widget.element, element);
  assert.deepEqual(phrasesOf({ value: after.widget.options.getValue() }), ["after"]);
  assert.equal(aspectOf(after), 3, "its host is the new node");
  after.widget.options.setValue(layout("later"));
  assert.deepEqual(phrasesOf({ value: before.widget.options.getValue() }), ["later"]);
  const other = makeNode(8);
  other.node.onConfigure();
  assert.notEqual(other.widget.element, element);
  assert.equal(stored({ value: other.widget.options.getValue() }).length, 0);
});

test("undo by a key on the canvas gives it the keyboard back, undo from elsewhere lets go of the selection", (t) => {
  for (const [wait, focused, label] of [[2999, true, "1 selected"], [3001, false, "none selected"]]) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e6 });
    const before = makeNode(9);
    before.widget.options.setValue(layout("a cup"));
    const canvas = before.widget.element.querySelector(".deig-canvas");
    canvas.hear({ type: "keydown", key: "PageUp", preventDefault() {}, stopPropagation() {} });
    document.activeElement = document.body;
    t.mock.timers.tick(wait);
    before.node.onRemoved();
    const after = makeNode(9);
    after.widget.options.setValue(layout("a cup"));
    after.node.onConfigure();
    t.mock.timers.tick(50);
    assert.equal(document.activeElement === canvas, focused);
    assert.match(canvas.attributes["aria-label"], new RegExp(label));
    t.mock.timers.reset();
  }
});

test("the keyboard is not taken from a field that has it", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e6 });
  const before = makeNode(10);
  before.widget.element.querySelector(".deig-canvas").hear({ type: "keydown", key: "x" });
  before.node.onRemoved();
  makeNode(10).node.onConfigure();
  const field = document.createElement("input");
  document.activeElement = field;
  t.mock.timers.tick(1000);
  assert.equal(document.activeElement, field);
});

test("the node's own properties keep the brush, which the toolbar shows when it is loaded", () => {
  const made = makeNode(11);
  const slider = made.widget.element.querySelector(".deig-brush");
  const shown = (radius) => Math.abs(Number(slider.value) - Math.log(radius / 0.005) / Math.log(50)) < 1e-9;
  assert.ok(shown(0.04));
  made.node.properties.deig_brush = 0.1;
  made.node.onConfigure();
  assert.ok(shown(0.1));
});
