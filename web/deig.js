// Puts the region editor on its node. The one file here that knows the host's frontend.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { RegionEditor } from "./editor.js";
import { element } from "./element.js";

const NODE = "DEIG_RegionEditor";
const WIDGET = "DEIG_REGIONS_EDITOR";
const LEAST_HEIGHT = 460;
const FIRST_SIZE = [440, 680];

// Undo makes the graph's nodes anew. What the hand held on the old node, it should hold on the new one.
const held = new Map(); // node id -> { selected, focused, at }
const HELD_FOR = 3000; // milliseconds

document.head.append(element("link", { rel: "stylesheet", href: new URL("./editor.css", import.meta.url).href }));

// The node as the editor sees it.
class Host {
  ran = {}; // width and height of the last run, for when they are wired

  constructor(node) {
    this.node = node;
  }

  size() {
    return { width: this.#side("width"), height: this.#side("height") };
  }

  #side(name) {
    const wired = this.#isLinked(name) && this.ran[name];
    return wired || this.node.widgets?.find((widget) => widget.name === name)?.value || 512;
  }

  #isLinked(name) {
    return this.node.inputs?.find((input) => input.name === name)?.link != null;
  }

  isWired() {
    return this.#isLinked("layout");
  }

  get snap() {
    return Boolean(this.node.properties?.deig_snap);
  }

  set snap(on) {
    this.node.properties.deig_snap = on;
  }

  // Let the graph's undo take what `step` does as one step.
  change(step) {
    app.canvas.emitBeforeChange();
    try {
      step();
      this.node.graph?.setDirtyCanvas(true, false);
    } finally {
      app.canvas.emitAfterChange();
    }
  }

  // Any form of layout -> this pack's JSON, read by the same Python that the nodes use.
  async readText(text) {
    const body = JSON.stringify({ text, ...this.size() });
    const answer = await api.fetchApi("/deig/read_layout", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok && answer.status !== 400) throw new Error(`The server answered ${answer.status}.`);
    const { layout, error } = await answer.json();
    if (error) throw new Error(error);
    return layout;
  }
}

function chained(object, name, after) {
  const before = object[name];
  object[name] = function (...given) {
    const result = before?.apply(this, given);
    after.apply(this, given);
    return result;
  };
}

function addEditor(node, name) {
  const host = new Host(node);
  const editor = new RegionEditor(host);
  const widget = node.addDOMWidget(name, WIDGET, editor.element, {
    getValue: () => editor.value,
    setValue: (text) => (editor.value = text),
    getMinHeight: () => LEAST_HEIGHT,
    hideOnZoom: false,
    // A click on the canvas is the editor's; only taking the keyboard selects the node.
    selectOn: ["focusin"],
  });

  chained(node, "onConfigure", () => {
    editor.refreshSnap();
    pickUp(node, editor);
  });
  chained(node, "onConnectionsChange", () => editor.select(editor.selected));
  chained(node, "onRemoved", () => {
    putDown(node, editor);
    editor.destroy();
  });
  chained(node, "onExecuted", (output) => {
    if (output?.deig_size) [host.ran.width, host.ran.height] = output.deig_size;
    showBackground(editor, output?.deig_background?.[0]);
    editor.select(editor.selected);
  });
  return { widget, editor };
}

function showBackground(editor, saved) {
  if (!saved) {
    editor.setBackground(null);
    return;
  }
  const image = new Image();
  image.onload = () => editor.setBackground(image);
  image.src = api.apiURL(`/view?${new URLSearchParams({ ...saved, rand: Math.random() })}`);
}

function putDown(node, editor) {
  // By now the canvas is off the page and has lost the focus, so ask when it last had a key, as Ctrl+Z is one.
  const focused = Date.now() - editor.lastKey < HELD_FOR;
  held.set(node.id, { selected: editor.selected, focused, at: Date.now() });
}

function pickUp(node, editor) {
  const { selected, focused, at } = held.get(node.id) ?? {};
  held.delete(node.id);
  if (!(Date.now() - at < HELD_FOR)) return;
  editor.select(Math.min(selected, editor.layout.regions.length - 1));
  // The canvas is put on the page only after this.
  if (focused) setTimeout(() => editor.canvas.focus(), 50);
}

app.registerExtension({
  name: "DEIG.RegionEditor",

  getCustomWidgets() {
    return {
      [WIDGET](node, name) {
        const { widget, editor } = addEditor(node, name);
        node.deigEditor = editor;
        return { widget };
      },
    };
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    for (const name of ["width", "height"]) {
      const widget = node.widgets.find((one) => one.name === name);
      if (widget) chained(widget, "callback", () => node.deigEditor.select(node.deigEditor.selected));
    }
    node.setSize([Math.max(node.size[0], FIRST_SIZE[0]), Math.max(node.size[1], FIRST_SIZE[1])]);
  },
});
