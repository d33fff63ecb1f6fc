// Puts the region editor on its node. The one file here that knows the host's frontend.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { RegionEditor } from "./editor.js";
import { element } from "./element.js";
import { parseLayout } from "./layout.js";
import { Released } from "./released.js";

const NODE = "DEIG_RegionEditor";
const WIDGET = "DEIG_REGIONS_EDITOR";
const LEAST_HEIGHT = 460;
const FIRST_SIZE = [440, 680];

const released = new Released();
const JUST_NOW = 3000; // milliseconds

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

  // The brush's radius, as a fraction of the picture's shorter side.
  get brush() {
    return this.node.properties?.deig_brush ?? 0.04;
  }

  set brush(radius) {
    this.node.properties.deig_brush = radius;
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
  let editor = new RegionEditor(host);
  const widget = node.addDOMWidget(name, WIDGET, editor.element, {
    getValue: () => editor.value,
    setValue: (text) => (editor.value = text),
    getMinHeight: () => LEAST_HEIGHT,
    hideOnZoom: false,
    // A click on the canvas is the editor's; only taking the keyboard selects the node.
    selectOn: ["focusin"],
  });
  node.deigRefresh = () => editor.select(editor.selected);

  chained(node, "onConfigure", () => {
    const former = released.take(node.id);
    if (former) {
      takeOver(former, editor, host);
      editor = former;
      widget.element = former.element;
    }
    editor.refreshTools();
  });
  chained(node, "onConnectionsChange", node.deigRefresh);
  chained(node, "onRemoved", () => released.keep(node.id, editor));
  chained(node, "onExecuted", (output) => {
    if (output?.deig_size) [host.ran.width, host.ran.height] = output.deig_size;
    showBackground(editor, output?.deig_background?.[0]);
    editor.setWired(parseLayout(output?.deig_wired?.[0] ?? '{"regions": []}').regions);
    if (output?.deig_incoming?.[0]) editor.seed(output.deig_incoming[0]);
    node.deigRefresh();
  });
  return widget;
}

function takeOver(former, fresh, host) {
  former.host = host;
  former.value = fresh.value;
  fresh.destroy();
  if (Date.now() - former.hand.lastKey > JUST_NOW) {
    former.select(-1);
    former.setBackground(null);
    return;
  }
  // It was a key on the canvas that undid: give the canvas the keyboard back, once it is on the page again.
  for (const delay of [50, 150, 400]) {
    setTimeout(() => document.activeElement === document.body && former.canvas.focus(), delay);
  }
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

app.registerExtension({
  name: "DEIG.RegionEditor",

  getCustomWidgets() {
    return {
      [WIDGET](node, name) {
        return { widget: addEditor(node, name) };
      },
    };
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    for (const name of ["width", "height"]) {
      const widget = node.widgets.find((one) => one.name === name);
      if (widget) chained(widget, "callback", node.deigRefresh);
    }
    node.setSize([Math.max(node.size[0], FIRST_SIZE[0]), Math.max(node.size[1], FIRST_SIZE[1])]);
  },
});
