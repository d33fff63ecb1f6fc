// The editor on the node: canvas, list of regions, menu. Phrases are text everywhere: set as values or drawn.

import { drawLayout, inPixels } from "./drawing.js";
import { element } from "./element.js";
import { movedBy } from "./geometry.js";
import { Hand } from "./hand.js";
import * as layouts from "./layout.js";
import { RegionList } from "./list.js";
import { Menu } from "./menu.js";
import { colourOf } from "./palette.js";
import { TOOLS } from "./tools.js";

const REDRAW_TRIES = 20; // every 100 milliseconds, while the host is putting the canvas on the page
const LARGE = 100_000; // characters of a layout that a workflow file should not carry unasked
const counted = ({ length }) => `${length} region${length === 1 ? "" : "s"}`;
const BRUSH = { least: 0.005, most: 0.25, step: 1.25 };

export class RegionEditor {
  #editing = new layouts.Editing();
  #selected = -1;
  #hovered = -1;
  #background = null;
  #wired = [];
  #brushAt = null;
  #drawing = 0;
  #tries = 0;

  // `host` is the node: size(), snap and brush (read and write), isWired(), change(step), readText(text).
  constructor(host) {
    this.host = host;
    this.tool = "box";
    this.canvas = element("canvas", { className: "deig-canvas", tabIndex: 0 });
    this.stage = element("div", { className: "deig-stage" }, this.canvas);
    this.prompt = element("textarea", { className: "deig-prompt", rows: 2, placeholder: "Prompt for the whole picture" });
    this.prompt.setAttribute("aria-label", "Prompt for the whole picture");
    this.message = element("div", { className: "deig-message" });
    this.message.setAttribute("role", "status");
    this.list = new RegionList(this);
    this.menu = new Menu();
    this.element = element("div", { className: "deig-editor" }, this.#toolbar(), this.stage, this.message, this.prompt, this.list.element, this.menu.element);
    this.hand = new Hand(this);
    this.prompt.addEventListener("input", () => this.preview((layout) => ({ ...layout, prompt: this.prompt.value })));
    this.prompt.addEventListener("change", () => this.commit());
    // The graph below must not take the editor's clicks for its own; the middle button pans it as ever.
    this.element.addEventListener("pointerdown", (event) => event.button !== 1 && event.stopPropagation());
    this.resizing = new ResizeObserver(() => this.draw());
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

  get isUnderWay() {
    return this.#editing.isUnderWay;
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

  hover(index) {
    if (index === this.#hovered) return;
    this.#hovered = index;
    this.draw();
  }

  setBackground(image) {
    this.#background = image;
    this.draw();
  }

  // The regions that come in by the wire and lie behind, as of the last run.
  setWired(regions) {
    this.#wired = regions;
    this.draw();
  }

  // Where the brush is shown, a point in fractions; null for nowhere.
  showBrush(point) {
    if (point === this.#brushAt) return;
    this.#brushAt = point;
    this.draw();
  }

  // Take what the last run had from the wire, unless it is what this layout began with.
  seed({ layout, digest }) {
    if (this.layout.incoming === digest) return;
    const read = layouts.parseLayout(layout);
    this.apply((old) => ({ ...read, prompt: read.prompt || old.prompt, incoming: digest }));
    this.say(`${counted(read.regions)} came in by the wire, to go on with. Undo brings the drawing back.`);
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
      this.host.change(() => this.#editing.commit());
      const { length } = this.value;
      const large = `The layout has ${Math.round(length / 1000)} thousand characters, which make the workflow slow to save. A mask drawn here is small; one from elsewhere may be finer than it needs to be.`;
      this.say(length > LARGE ? large : "");
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
    this.hand.letGo();
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
      return layouts.withBox(added, last, movedBy(region.box, shift), this.size);
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
      const { incoming } = this.layout; // what was pasted wins over what came in by the wire before
      this.apply(() => (incoming === undefined ? read : { ...read, incoming }));
      this.say(`${counted(read.regions)} pasted.`);
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
    if (!view.width || !view.height) {
      if (this.#tries++ < REDRAW_TRIES) setTimeout(() => this.draw(), 100);
      return;
    }
    this.#tries = 0;
    // Sharp at the graph's zoom and the screen's pixels, within reason.
    const scale = Math.min(Math.max(this.#zoom() * window.devicePixelRatio, 1), 3);
    this.canvas.width = Math.round(view.width * scale);
    this.canvas.height = Math.round(view.height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const { size, layout } = this;
    const snap = this.host.snap;
    const brush = this.#brushAt && this.tool !== "box" ? { point: this.#brushAt, radius: this.#radius() } : null;
    drawLayout(context, { layout, view, size, selected: this.#selected, hovered: this.#hovered, background: this.#background, snap, wired: this.#wired, brush });
  }

  #radius() {
    return this.tool === "point" ? layouts.POINT_RADIUS : this.host.brush;
  }

  #refresh() {
    if (document.activeElement !== this.prompt) this.prompt.value = this.layout.prompt;
    this.list.refresh();
    // The style sheet fits the canvas into its room.
    this.canvas.style.setProperty("--aspect", this.size.width / this.size.height);
    this.draw();
    const { length } = this.layout.regions;
    const { phrase } = this.layout.regions[this.#selected] ?? {};
    const chosen = phrase === undefined ? "none selected" : `${this.#selected + 1} selected: ${phrase || "no phrase"}`;
    this.canvas.setAttribute("aria-label", `Canvas with ${length} regions, ${chosen}`);
    if (this.host.isWired()) this.say("A wired text takes the place of this drawing. Wire it into incoming instead, to go on with it here.");
  }

  #view() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  // How much larger the graph shows the canvas than it is laid out.
  #zoom() {
    return this.canvas.getBoundingClientRect().width / this.canvas.clientWidth || 1;
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
      this.refreshTools();
    });
    this.toolButtons = TOOLS.map(({ name, label, title }) => button(label, title, () => this.setTool(name)));
    this.brushField = element("input", { type: "range", className: "deig-brush", min: 0, max: 1, step: "any", title: "Size of brush, eraser and stroke ([ and ])" });
    this.brushField.setAttribute("aria-label", "Size of brush, eraser and stroke");
    this.brushField.addEventListener("input", () => this.setBrush(BRUSH.least * (BRUSH.most / BRUSH.least) ** Number(this.brushField.value)));
    this.brushField.addEventListener("keydown", (event) => event.stopPropagation());
    this.refreshTools();
    return element(
      "div",
      { className: "deig-toolbar" },
      ...this.toolButtons,
      this.brushField,
      button("Add", "Add a region (N)", () => this.addInTheMiddle()),
      button("Back", "Send back, behind others (Shift+Page Down)", () => this.reorder(this.#selected, this.#selected - 1)),
      button("Front", "Bring forward, over others (Shift+Page Up)", () => this.reorder(this.#selected, this.#selected + 1)),
      button("Duplicate", "Duplicate (Ctrl+D)", () => this.duplicate(this.#selected)),
      button("Remove", "Remove (Delete)", () => this.remove(this.#selected)),
      this.snapButton,
      button("\u22ef", "Copy, paste, clear (right click)", (event) => this.openMenu(event.currentTarget.getBoundingClientRect())),
    );
  }

  setTool(name) {
    if (this.isUnderWay) this.cancel();
    this.tool = name;
    this.refreshTools();
    this.canvas.focus();
  }

  // The radius of brush, eraser and stroke, as a fraction of the picture's shorter side.
  setBrush(radius) {
    this.host.brush = Math.round(Math.min(Math.max(radius, BRUSH.least), BRUSH.most) * 1e4) / 1e4;
    this.refreshTools();
  }

  stepBrush(steps) {
    this.setBrush(this.host.brush * BRUSH.step ** steps);
  }

  refreshTools() {
    this.snapButton.setAttribute("aria-pressed", this.host.snap);
    this.toolButtons.forEach((button, index) => button.setAttribute("aria-pressed", TOOLS[index].name === this.tool));
    this.brushField.disabled = this.tool === "box" || this.tool === "point";
    this.brushField.value = Math.log(this.host.brush / BRUSH.least) / Math.log(BRUSH.most / BRUSH.least);
    this.draw();
  }

  openMenu({ left, bottom }) {
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

  destroy() {
    this.resizing.disconnect();
    this.menu.close();
  }
}
