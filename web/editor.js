// The editor on the node: canvas, list of regions, menu. Phrases are text everywhere: set as values or drawn.

import { drawLayout, inPixels, HANDLE_RADIUS } from "./drawing.js";
import * as geometry from "./geometry.js";
import * as layouts from "./layout.js";
import { Menu } from "./menu.js";
import { colourOf } from "./palette.js";
import { RegionList } from "./list.js";
import { element } from "./element.js";

const REACH = HANDLE_RADIUS + 4; // how near to a handle counts as on it, in CSS pixels
const LEAST_DRAG = 4; // a shorter drag is a click that shook

const CURSORS = { n: "ns", s: "ns", e: "ew", w: "ew", nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const countMasks = (layout) => layout.regions.filter((region) => region.mask).length;

export class RegionEditor {
  #editing = new layouts.Editing();
  #selected = -1;
  #hovered = -1;
  #drag = null; // { kind, from, index, handle, moved }
  #nudge = null; // { move: [dx, dy], grow: [dx, dy] } in pixels, while arrow keys are held
  #background = null;
  #drawing = 0;
  lastKey = -Infinity; // when the canvas last had a key pressed, in milliseconds

  // `host` is the node: size(), snap (read and write), isWired(), change(step), readText(text).
  constructor(host) {
    this.host = host;
    this.canvas = element("canvas", { className: "deig-canvas", tabIndex: 0 });
    this.stage = element("div", { className: "deig-stage" }, this.canvas);
    this.prompt = element("textarea", { className: "deig-prompt", rows: 2, placeholder: "Prompt for the whole picture" });
    this.prompt.setAttribute("aria-label", "Prompt for the whole picture");
    this.message = element("div", { className: "deig-message" });
    this.message.setAttribute("role", "status");
    this.list = new RegionList(this);
    this.menu = new Menu();
    this.element = element("div", { className: "deig-editor" }, this.#toolbar(), this.stage, this.message, this.prompt, this.list.element, this.menu.element);
    this.#listen();
    this.resizing = new ResizeObserver(() => this.#fit());
    this.resizing.observe(this.stage);
    this.#refresh();
  }

  // ---- the value ----

  get value() {
    return layouts.writeLayout(this.#editing.done);
  }

  set value(text) {
    try {
      this.#editing.load(text);
      this.say("");
    } catch (error) {
      this.say(`The layout was not loaded, the old one stays. ${error.message}`, true);
    }
    this.select(Math.min(this.#selected, this.layout.regions.length - 1));
  }

  get layout() {
    return this.#editing.layout;
  }

  get selected() {
    return this.#selected;
  }

  get size() {
    return this.host.size();
  }

  select(index) {
    this.#selected = index;
    this.#refresh();
  }

  setBackground(image) {
    this.#background = image;
    this.draw();
  }

  say(text, isError = false) {
    this.message.textContent = text;
    this.message.classList.toggle("deig-error", isError);
  }

  // ---- changing the layout: preview as often as needed, then commit as one step of the graph's undo ----

  preview(change) {
    this.#editing.preview(change);
    this.draw();
  }

  commit() {
    if (this.#editing.isUnderWay) {
      const before = this.#editing.done;
      this.host.change(() => this.#editing.commit());
      const dropped = before.regions.length === this.layout.regions.length && countMasks(this.layout) < countMasks(before);
      this.say(dropped ? "The region's mask no longer fits its box and was dropped. Undo brings it back." : "");
    }
    this.#selected = Math.min(this.#selected, this.layout.regions.length - 1);
    this.#refresh();
  }

  apply(change) {
    this.preview(change);
    this.commit();
  }

  cancel() {
    this.#editing.cancel();
    this.#drag = this.#nudge = null;
    this.#refresh();
  }

  remove(index) {
    if (!this.layout.regions[index]) return;
    this.apply((layout) => layouts.without(layout, index));
  }

  duplicate(index) {
    const region = this.layout.regions[index];
    if (!region) return;
    const shift = [16 / this.size.width, 16 / this.size.height];
    this.apply((layout) => {
      const added = layouts.withAdded(layout, region);
      const last = added.regions.length - 1;
      return layouts.withBox(added, last, geometry.movedBy(region.box, shift), this.size);
    });
    this.select(this.layout.regions.length - 1);
  }

  reorder(from, to) {
    const target = Math.min(Math.max(to, 0), this.layout.regions.length - 1);
    if (!this.layout.regions[from] || target === from) return;
    this.apply((layout) => layouts.withOrder(layout, from, target));
    this.select(target);
  }

  addInTheMiddle() {
    this.apply((layout) => layouts.withAdded(layout, layouts.newRegion([0.35, 0.35, 0.65, 0.65])));
    this.select(this.layout.regions.length - 1);
    this.editPhrase();
  }

  // ---- text in and out ----

  async copy() {
    try {
      await navigator.clipboard.writeText(this.value);
      this.say("Layout copied.");
    } catch {
      this.say("The browser does not let the layout be copied here. Click the canvas and press Ctrl+C.", true);
    }
  }

  async paste() {
    let text;
    try {
      text = await navigator.clipboard.readText();
    } catch {
      this.#askForText();
      return;
    }
    await this.take(text);
  }

  // Read any form of layout through the host's reader; whatever is wrong, the old layout stays.
  async take(text) {
    try {
      const read = layouts.parseLayout(await this.host.readText(text));
      this.apply(() => read);
      this.say(`${read.regions.length} region${read.regions.length === 1 ? "" : "s"} pasted.`);
      return true;
    } catch (error) {
      this.say(`Not pasted, the old layout stays. ${error.message}`, true);
      return false;
    }
  }

  // Where the page may not read the clipboard (plain http), the browser still lets one paste into a field.
  #askForText() {
    const field = element("textarea", { className: "deig-paste-text", placeholder: "Paste a layout here" });
    field.setAttribute("aria-label", "Layout to paste");
    const close = () => {
      panel.remove();
      this.canvas.focus();
    };
    const read = element("button", { type: "button", textContent: "Read", onclick: async () => (await this.take(field.value)) && close() });
    const cancel = element("button", { type: "button", textContent: "Cancel", onclick: close });
    const panel = element("div", { className: "deig-paste" }, field, element("div", {}, read, cancel));
    panel.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close();
    });
    this.element.append(panel);
    field.focus();
  }

  // ---- a phrase in place ----

  editPhrase(index = this.#selected) {
    const region = this.layout.regions[index];
    if (!region) return;
    this.select(index);
    this.stage.querySelector(".deig-inplace")?.blur();
    const field = element("textarea", { className: "deig-inplace", value: region.phrase, rows: 2, placeholder: "What is to be seen here?" });
    field.setAttribute("aria-label", `Phrase of region ${index + 1}`);
    const [x0, y0, x1] = inPixels(region.box, this.#view());
    const width = Math.min(Math.max(x1 - x0, 160), this.#view().width);
    field.style.left = `${this.canvas.offsetLeft + Math.min(x0, this.#view().width - width)}px`;
    field.style.top = `${this.canvas.offsetTop + Math.min(y0, this.#view().height - 40)}px`;
    field.style.width = `${width}px`;
    field.style.borderColor = colourOf(index);

    let open = true;
    const finish = (keep) => {
      if (!open) return;
      open = false;
      if (keep) this.apply((layout) => layouts.withRegion(layout, index, { phrase: field.value }));
      else this.cancel();
      field.remove();
    };
    field.addEventListener("input", () => this.preview((layout) => layouts.withRegion(layout, index, { phrase: field.value })));
    field.addEventListener("blur", () => finish(true));
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Escape" && !(event.key === "Enter" && !event.shiftKey)) return;
      event.preventDefault();
      finish(event.key === "Enter");
      this.canvas.focus();
    });
    field.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.stage.append(field);
    field.focus();
    field.select();
  }

  // ---- drawing ----

  draw() {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#drawNow();
    });
  }

  #drawNow() {
    const view = this.#view();
    if (!view.width || !view.height) return;
    // Sharp at the graph's zoom and the screen's pixels, within reason.
    const scale = Math.min(Math.max(this.#zoom() * window.devicePixelRatio, 1), 3);
    this.canvas.width = Math.round(view.width * scale);
    this.canvas.height = Math.round(view.height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const { size, layout } = this;
    const snap = this.host.snap;
    drawLayout(context, { layout, view, size, selected: this.#selected, hovered: this.#hovered, background: this.#background, snap });
  }

  #refresh() {
    if (document.activeElement !== this.prompt) this.prompt.value = this.layout.prompt;
    this.list.refresh();
    this.#fit();
    const { length } = this.layout.regions;
    const { phrase } = this.layout.regions[this.#selected] ?? {};
    const chosen = phrase === undefined ? "none selected" : `${this.#selected + 1} selected: ${phrase || "no phrase"}`;
    this.canvas.setAttribute("aria-label", `Canvas with ${length} regions, ${chosen}`);
    if (this.host.isWired()) this.say("A wired text takes the place of this drawing.");
  }

  #fit() {
    const { width, height } = this.size;
    const room = { width: this.stage.clientWidth, height: this.stage.clientHeight };
    const fitted = geometry.fitted(width / height, room);
    this.canvas.style.width = `${fitted.width}px`;
    this.canvas.style.height = `${fitted.height}px`;
    this.draw();
  }

  #view() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  // How much larger the graph shows the canvas than it is laid out.
  #zoom() {
    return this.canvas.getBoundingClientRect().width / this.canvas.clientWidth || 1;
  }

  #point(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  #reach() {
    const { width, height } = this.canvas.getBoundingClientRect();
    return [REACH / width, REACH / height];
  }

  #boxes() {
    return this.layout.regions.map((region) => region.box);
  }

  // ---- the toolbar and the menu ----

  #toolbar() {
    const button = (label, title, action) => {
      const made = element("button", { type: "button", textContent: label, title });
      made.setAttribute("aria-label", title);
      made.addEventListener("click", action);
      return made;
    };
    this.snapButton = button("Snap", "Snap to the 8 pixel grid of the latent", () => {
      this.host.change(() => (this.host.snap = !this.host.snap));
      this.refreshSnap();
    });
    this.refreshSnap();
    return element(
      "div",
      { className: "deig-toolbar" },
      button("Add", "Add a region (N)", () => this.addInTheMiddle()),
      button("Back", "Send back, behind others (Shift+Page Down)", () => this.reorder(this.#selected, this.#selected - 1)),
      button("Front", "Bring forward, over others (Shift+Page Up)", () => this.reorder(this.#selected, this.#selected + 1)),
      button("Duplicate", "Duplicate (Ctrl+D)", () => this.duplicate(this.#selected)),
      button("Remove", "Remove (Delete)", () => this.remove(this.#selected)),
      this.snapButton,
      button("\u22ef", "Copy, paste, clear (right click)", (event) => this.#openMenu(event.currentTarget.getBoundingClientRect())),
    );
  }

  refreshSnap() {
    this.snapButton.setAttribute("aria-pressed", this.host.snap);
    this.draw();
  }

  #openMenu({ left, bottom }) {
    const chosen = this.layout.regions[this.#selected] !== undefined;
    const items = [
      ["Copy layout", () => this.copy()],
      ["Paste layout", () => this.paste()],
      ["Clear", () => this.apply((layout) => ({ ...layout, regions: [] }))],
    ];
    if (chosen) {
      items.push(
        ["Edit phrase", () => this.editPhrase()],
        ["Bring forward", () => this.reorder(this.#selected, this.#selected + 1)],
        ["Send back", () => this.reorder(this.#selected, this.#selected - 1)],
        ["Duplicate", () => this.duplicate(this.#selected)],
        ["Remove", () => this.remove(this.#selected)],
      );
    }
    this.menu.open(items, [left, bottom], () => this.canvas.focus());
  }

  // ---- the hand ----

  #listen() {
    const on = (type, handler) => this.canvas.addEventListener(type, handler.bind(this));
    on("pointerdown", this.#pointerDown);
    on("pointermove", this.#pointerMove);
    on("pointerup", this.#pointerUp);
    on("pointercancel", this.cancel);
    on("pointerleave", () => this.#hover(-1));
    on("dblclick", this.#doubleClick);
    on("contextmenu", this.#contextMenu);
    on("keydown", this.#keyDown);
    on("keyup", this.#keyUp);
    on("blur", this.#endNudge);
    on("copy", this.#copyEvent);
    on("paste", this.#pasteEvent);
    this.prompt.addEventListener("input", () => this.preview((layout) => ({ ...layout, prompt: this.prompt.value })));
    this.prompt.addEventListener("change", () => this.commit());
    // The graph below must not take the editor's clicks for its own; the middle button pans it as ever.
    this.element.addEventListener("pointerdown", (event) => event.button !== 1 && event.stopPropagation());
  }

  #pointerDown(event) {
    if (event.button !== 0) return;
    this.canvas.focus(); // also ends what is being typed elsewhere
    this.canvas.setPointerCapture(event.pointerId);
    const from = this.#point(event);
    const boxes = this.#boxes();
    const handle = boxes[this.#selected] && !event.shiftKey && geometry.handleAt(boxes[this.#selected], from, this.#reach());
    const index = geometry.nextHit(boxes, from, this.#selected, event.altKey);
    const start = { x: event.clientX, y: event.clientY };
    if (handle) {
      this.#drag = { kind: "resize", index: this.#selected, handle, from, start };
    } else if (index >= 0 && !event.shiftKey) {
      this.#drag = { kind: "move", index, from, start };
      this.select(index);
    } else {
      this.#drag = { kind: "draw", index: boxes.length, from, start };
    }
  }

  #pointerMove(event) {
    const point = this.#point(event);
    if (!this.#drag) {
      this.#hover(geometry.nextHit(this.#boxes(), point, this.#selected, false), point, event.shiftKey);
      return;
    }
    const drag = this.#drag;
    drag.moved ||= Math.hypot(event.clientX - drag.start.x, event.clientY - drag.start.y) >= LEAST_DRAG;
    if (drag.moved) this.preview((layout) => this.#dragged(layout, drag, point));
  }

  // The layout after a drag from `drag.from` to `point`.
  #dragged(layout, { kind, index, handle, from }, point) {
    const { size } = this;
    const { snap } = this.host;
    if (kind === "draw") {
      const box = geometry.boxBetween(from, point);
      const least = snap ? geometry.snapBox(box, size) : geometry.atLeast(box, 1, size);
      return layouts.withAdded(layout, layouts.newRegion(least), index);
    }
    const { box } = layout.regions[index];
    const by = [point[0] - from[0], point[1] - from[1]];
    if (kind === "move") {
      return layouts.withBox(layout, index, snap ? geometry.movedOnGrid(box, by, size) : geometry.movedBy(box, by), size);
    }
    const [x, y] = geometry.handlePoint(box, handle);
    const to = [x + by[0], y + by[1]];
    return layouts.withBox(layout, index, geometry.resized(box, handle, snap ? geometry.snapPoint(to, size) : to), size);
  }

  #pointerUp(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag || event.button !== 0) return;
    if (!drag.moved) {
      if (drag.kind === "draw") this.select(-1);
      return;
    }
    this.commit();
    this.select(drag.index);
    if (drag.kind === "draw") this.editPhrase();
  }

  #hover(index, point = null, draws = false) {
    const handle = point && !draws && this.layout.regions[this.#selected] && geometry.handleAt(this.layout.regions[this.#selected].box, point, this.#reach());
    this.canvas.style.cursor = handle ? `${CURSORS[handle]}-resize` : index >= 0 && !draws ? "move" : "crosshair";
    this.canvas.title = index >= 0 ? this.layout.regions[index].phrase : "";
    if (index === this.#hovered) return;
    this.#hovered = index;
    this.draw();
  }

  #doubleClick(event) {
    event.preventDefault();
    event.stopPropagation();
    this.editPhrase(geometry.nextHit(this.#boxes(), this.#point(event), this.#selected, false));
  }

  #contextMenu(event) {
    event.preventDefault();
    event.stopPropagation();
    const byKey = event.button !== 2;
    if (!byKey) this.select(geometry.nextHit(this.#boxes(), this.#point(event), this.#selected, false));
    const { left, top } = this.canvas.getBoundingClientRect();
    this.#openMenu(byKey ? { left: left + 20, bottom: top + 20 } : { left: event.clientX, bottom: event.clientY });
  }

  #copyEvent(event) {
    event.preventDefault();
    event.stopPropagation();
    event.clipboardData.setData("text/plain", this.value);
    this.say("Layout copied.");
  }

  #pasteEvent(event) {
    event.preventDefault();
    event.stopPropagation();
    this.take(event.clipboardData.getData("text/plain"));
  }

  // ---- keys ----

  #keyDown(event) {
    this.lastKey = Date.now();
    const index = this.#selected;
    const count = this.layout.regions.length;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const keys = {
      Delete: () => this.remove(index),
      Backspace: () => this.remove(index),
      Enter: () => this.editPhrase(),
      F2: () => this.editPhrase(),
      Insert: () => this.addInTheMiddle(),
      Escape: () => (this.#editing.isUnderWay || this.#drag ? this.cancel() : this.select(-1)),
      PageUp: () => (event.shiftKey ? this.reorder(index, index + 1) : count && this.select((index + 1) % count)),
      PageDown: () => (event.shiftKey ? this.reorder(index, index - 1) : count && this.select((Math.max(index, 0) + count - 1) % count)),
    };
    if (control && key === "d") keys.d = () => this.duplicate(index);
    if (!control && !event.altKey) keys.n = () => this.addInTheMiddle();
    if (ARROWS[key] && index >= 0) keys[key] = () => this.#nudgeBy(ARROWS[key], event.shiftKey, control);
    // Control+Enter and the like are the graph's own.
    if (!keys[key] || (control && key === "Enter")) return;
    event.preventDefault();
    event.stopPropagation();
    keys[key]();
  }

  // Arrow keys move by pixels, or by cells of the grid; with Control they move the right and lower edges.
  #nudgeBy([x, y], far, grows) {
    const step = (far ? 8 : 1) * (this.host.snap ? geometry.CELL_PIXELS : 1);
    this.#nudge ??= { index: this.#selected, move: [0, 0], grow: [0, 0] };
    const by = grows ? this.#nudge.grow : this.#nudge.move;
    by[0] += (x * step) / this.size.width;
    by[1] += (y * step) / this.size.height;
    const { index, move, grow } = this.#nudge;
    this.preview((layout) => {
      const [x0, y0, x1, y1] = geometry.movedBy(layout.regions[index].box, move);
      const corner = [Math.max(x1 + grow[0], x0), Math.max(y1 + grow[1], y0)];
      return layouts.withBox(layout, index, geometry.boxBetween([x0, y0], corner), this.size);
    });
  }

  #keyUp(event) {
    if (ARROWS[event.key]) this.#endNudge();
  }

  // All presses until the key is let go are one step.
  #endNudge() {
    if (!this.#nudge) return;
    this.#nudge = null;
    this.commit();
  }

  destroy() {
    this.resizing.disconnect();
    this.menu.close();
  }
}
