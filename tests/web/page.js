// A stand-in for the page, for tests without a browser: elements, events that rise, the keyboard's focus, and as much
// of layout as a test sets. What only a real page does is tested in tests/browser.

const listening = () => ({
  handlers: new Map(),
  addEventListener(type, handler) {
    this.handlers.set(type, [...(this.handlers.get(type) ?? []), handler]);
  },
  removeEventListener(type, handler) {
    this.handlers.set(type, (this.handlers.get(type) ?? []).filter((one) => one !== handler));
  },
  hear(event) {
    event.currentTarget = this;
    for (const handler of this.handlers.get(event.type) ?? []) handler.call(this, event);
  },
});

class FakeElement {
  children = [];
  parentElement = null;
  attributes = {};
  classes = new Set();
  style = {
    setProperty(name, value) {
      this[name] = value;
    },
  };
  box = { left: 0, top: 0, width: 0, height: 0 };
  textContent = "";
  scrollTop = 0;
  #value = "";

  constructor(tag) {
    this.tagName = tag;
    Object.assign(this, listening());
    this.context = tag === "canvas" ? recorder() : null;
    this.classList = {
      contains: (name) => this.classes.has(name),
      add: (name) => this.classes.add(name),
      remove: (name) => this.classes.delete(name),
      toggle: (name, on) => (on ? this.classes.add(name) : this.classes.delete(name)),
    };
  }

  set className(names) {
    this.classes = new Set(names.split(" "));
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    this.#value = String(value);
  }

  get firstChild() {
    return this.children[0];
  }

  append(...children) {
    for (const child of children) {
      child.parentElement = this;
      this.children.push(child);
    }
  }

  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }

  remove() {
    if (this.contains(document.activeElement)) {
      document.activeElement.isTyped = false; // what goes from the page loses the keyboard, without a change
      document.activeElement.blur();
    }
    this.parentElement.children = this.parentElement.children.filter((one) => one !== this);
    this.parentElement = null;
  }

  contains(other) {
    return other === this || this.children.some((child) => child.contains(other));
  }

  find(test) {
    if (test(this)) return this;
    for (const child of this.children) {
      const found = child.find(test);
      if (found) return found;
    }
    return null;
  }

  querySelector(selector) {
    return this.find((one) => one.classes.has(selector.slice(1)));
  }

  setAttribute(name, value) {
    this.attributes[name] = String(value);
  }

  focus() {
    if (document.activeElement === this) return;
    document.activeElement.blur();
    document.activeElement = this;
    this.before = this.value;
    fire(this, "focusin");
  }

  blur() {
    if (document.activeElement !== this) return;
    document.activeElement = document.body;
    if (this.isTyped && this.value !== this.before) fire(this, "change");
    this.isTyped = false;
    fire(this, "blur");
  }

  select() {}

  click() {
    fire(this, "click");
  }

  setPointerCapture(pointer) {
    this.captured = pointer;
  }

  hasPointerCapture(pointer) {
    return this.captured === pointer;
  }

  getBoundingClientRect() {
    const { left, top, width, height } = this.box;
    return { left, top, width, height, right: left + width, bottom: top + height };
  }

  getContext() {
    return this.context;
  }

  get clientWidth() {
    return this.box.width / (this.zoom ?? 1);
  }

  get clientHeight() {
    return this.box.height / (this.zoom ?? 1);
  }

  get offsetWidth() {
    return this.clientWidth;
  }

  get offsetHeight() {
    return this.clientHeight;
  }

  get offsetTop() {
    return this.box.top;
  }

  get offsetLeft() {
    return this.box.left;
  }

  get offsetParent() {
    return this.parentElement;
  }
}

// A canvas's context that keeps what is drawn on it, with the settings that it is drawn with. Letters are 6 wide.
export function recorder() {
  const kept = { textAlign: "start", globalAlpha: 1, dash: [] };
  const drawn = [];
  let path = [];
  const settings = ["fillStyle", "strokeStyle", "lineWidth", "lineCap", "globalAlpha", "textAlign", "font", "dash"];
  const keep = (what, more) => drawn.push({ what, ...Object.fromEntries(settings.map((name) => [name, kept[name]])), ...more });
  const answers = {
    drawn,
    measureText: (text) => ({ width: 6 * text.length }),
    setLineDash: (dash) => (kept.dash = dash),
    beginPath: () => (path = []),
    stroke: () => keep("stroke", { path }),
    fill: () => keep("fill", { path }),
    fillText: (text, x, y) => keep("text", { text, x, y }),
    createImageData: (width, height) => ({ width, height, data: new Uint8ClampedArray(4 * width * height) }),
  };
  for (const name of ["moveTo", "lineTo", "arc", "rect"]) answers[name] = (...at) => path.push([name, ...at]);
  for (const name of ["fillRect", "strokeRect", "clearRect", "scale", "drawImage", "putImageData"]) answers[name] = (...at) => keep(name, { at });
  return new Proxy(kept, {
    get: (target, name) => answers[name] ?? target[name],
    set: (target, name, value) => {
      target[name] = value;
      return true;
    },
  });
}

// Let an element hear an event, and all that it lies in until one stops it. Returns the event.
export function fire(target, type, more = {}) {
  let goesOn = true;
  const event = {
    type,
    target,
    defaultPrevented: false,
    ctrlKey: false,
    metaKey: false,
    shiftKey: false,
    altKey: false,
    preventDefault: () => (event.defaultPrevented = true),
    stopPropagation: () => (goesOn = false),
    ...more,
  };
  document.hear(event);
  for (let at = target; at && goesOn; at = at.parentElement) at.hear(event);
  event.stopped = !goesOn;
  return event;
}

// Press a key where the keyboard is, and let it go.
export function press(key, more = {}) {
  const event = fire(document.activeElement, "keydown", { key, ...more });
  fire(document.activeElement, "keyup", { key, ...more });
  return event;
}

// Type into a field, over what stands there.
export function type(field, text) {
  field.focus();
  field.value = text;
  field.isTyped = true;
  fire(field, "input");
}

export const clipboard = {
  text: "",
  isOpen: true,
  async readText() {
    if (!this.isOpen) throw new Error("not allowed");
    return this.text;
  },
  async writeText(text) {
    if (!this.isOpen) throw new Error("not allowed");
    this.text = text;
  },
};

let frames = [];
export const drawFrame = () => {
  const due = frames;
  frames = [];
  due.forEach((draw) => draw());
  return due.length;
};

// Nothing has the keyboard, and nobody listens any more.
export function freshPage() {
  document.handlers.clear();
  document.activeElement = document.body;
}

const document = { ...listening(), createElement: (tag) => new FakeElement(tag) };
document.body = new FakeElement("body");
document.head = new FakeElement("head");
document.activeElement = document.body;

const put = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
put("document", document);
put("window", { devicePixelRatio: 1 });
put("navigator", { clipboard });
put("requestAnimationFrame", (draw) => frames.push(draw));
put(
  "ResizeObserver",
  class {
    observe() {}
    disconnect() {}
  },
);

export const REGION = { phrase: "", strength: 1, start_percent: 0, end_percent: 1 };
export const SIZE = { width: 768, height: 512 };
const CANVAS = { left: 100, top: 50, width: 384, height: 256 };

// An editor on the page with regions of these boxes (and whatever else `more` says of each), on a host that counts the
// steps of its undo.
export function openEditor(RegionEditor, boxes = [], { phrases = [], places = [], ...given } = {}) {
  const host = {
    snap: false,
    brush: 0.04,
    steps: 0,
    size: () => SIZE,
    isWired: () => false,
    change(step) {
      this.steps++;
      step();
    },
    readText: async (text) => text,
    ...given,
  };
  const regions = boxes.map((box, index) => ({ ...REGION, phrase: phrases[index] ?? `thing ${index + 1}`, box, ...places[index] }));
  freshPage();
  const editor = new RegionEditor(host);
  editor.value = JSON.stringify({ prompt: "a shelf", regions });
  document.body.replaceChildren(editor.element);
  editor.canvas.box = CANVAS;
  drawFrame();
  return editor;
}

// Where a point of the picture, in fractions, is in the window.
const inWindow = ([x, y]) => ({ clientX: CANVAS.left + x * CANVAS.width, clientY: CANVAS.top + y * CANVAS.height });

export function pointer(editor, type, point, more = {}) {
  return fire(editor.canvas, type, { pointerId: 1, pointerType: "mouse", pressure: 0.5, button: 0, ...inWindow(point), ...more });
}

export function drag(editor, from, to, more = {}) {
  pointer(editor, "pointerdown", from, more);
  pointer(editor, "pointermove", to, more);
  pointer(editor, "pointerup", to, more);
}

export function click(editor, point, more = {}) {
  drag(editor, point, point, more);
}

// Write into the phrase field that is open, and end with Enter.
export function typePhrase(editor, text) {
  const field = editor.stage.querySelector(".deig-inplace");
  field.value = text;
  fire(field, "input");
  fire(field, "keydown", { key: "Enter" });
}

export const labelled = (editor, label) => editor.element.find((one) => one.attributes["aria-label"] === label);
export const stored = (editor) => JSON.parse(editor.value).regions;
export const boxesOf = (editor) => stored(editor).map((region) => region.box);
export const phrasesOf = (editor) => stored(editor).map((region) => region.phrase);
