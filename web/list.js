// The list of regions: number and colour, phrase, strength, start, end. It is reordered by dragging a number.

import { isTiny } from "./geometry.js";
import { element } from "./element.js";
import { parseLayout, withRegion, writeLayout } from "./layout.js";
import { colourOf, dashOf } from "./palette.js";

const NUMBERS = [
  { key: "strength", label: "Strength", title: "Strength: 0 is absent, 1 as trained, above 1 stronger", min: 0, step: 0.05 },
  { key: "start_percent", label: "Start", title: "Start: from 0, the first step, to 1", min: 0, max: 1, step: 0.05 },
  { key: "end_percent", label: "End", title: "End: from 0 to 1, the last step", min: 0, max: 1, step: 0.05 },
];
const BORDERS = ["solid", "dashed", "dotted", "double"];

export class RegionList {
  constructor(editor) {
    this.editor = editor;
    this.rows = [];
    this.heads = element("div", { className: "deig-row deig-heads" });
    this.heads.append(...["", "phrase, back to front", ...NUMBERS.map(({ label }) => label.toLowerCase()), ""].map((text) => element("span", { textContent: text })));
    this.heads.setAttribute("aria-hidden", "true");
    this.body = element("div", { className: "deig-rows" });
    this.body.setAttribute("role", "list");
    this.body.setAttribute("aria-label", "Regions, back to front");
    this.body.addEventListener("wheel", (event) => this.#scrolls() && event.stopPropagation(), { passive: true });
    this.element = element("div", { className: "deig-list" }, this.heads, this.body);
  }

  #scrolls() {
    return this.body.scrollHeight > this.body.clientHeight;
  }

  refresh() {
    const { regions } = this.editor.layout;
    this.heads.hidden = !regions.length;
    while (this.rows.length > regions.length) this.rows.pop().element.remove();
    while (this.rows.length < regions.length) {
      const row = this.#makeRow(this.rows.length);
      this.rows.push(row);
      this.body.append(row.element);
    }
    regions.forEach((region, index) => this.#fill(this.rows[index], region, index));
    this.#scrollTo(this.rows[this.editor.selected]);
  }

  // Not scrollIntoView, which would also move the graph.
  #scrollTo(row) {
    if (!row) return;
    const { offsetTop, offsetHeight } = row.element;
    const top = offsetTop - this.body.offsetTop;
    const lowest = top + offsetHeight - this.body.clientHeight;
    this.body.scrollTop = Math.min(Math.max(this.body.scrollTop, lowest), top);
  }

  #fill(row, region, index) {
    row.element.classList.toggle("deig-selected", index === this.editor.selected);
    for (const [key, input] of Object.entries(row.inputs)) {
      if (document.activeElement !== input) input.value = region[key];
    }
    row.inputs.phrase.title = region.phrase;
    row.inputs.phrase.classList.toggle("deig-missing", !region.phrase.trim());
    row.warning.hidden = !isTiny(region.box, this.editor.size);
  }

  #makeRow(index) {
    const badge = element("button", { type: "button", className: "deig-badge", textContent: `${index + 1}` });
    badge.title = "Drag to change the order, or use arrow up and down; later regions lie in front";
    badge.setAttribute("aria-label", `Region ${index + 1}, change its order`);
    badge.style.backgroundColor = colourOf(index);
    badge.style.borderStyle = BORDERS[dashOf(index).length && [5, 1.5, 7].indexOf(dashOf(index)[0]) + 1];

    const inputs = { phrase: this.#input(index, "phrase", { className: "deig-phrase", placeholder: "phrase" }, `Phrase of region ${index + 1}`) };
    for (const { key, label, title, ...limits } of NUMBERS) {
      inputs[key] = this.#input(index, key, { type: "number", title, ...limits }, `${label} of region ${index + 1}`);
    }
    const warning = element("span", { className: "deig-warning", textContent: "\u26a0", hidden: true });
    warning.title = "Smaller than one token of the finest grid (8 pixels): the model will hardly see it";
    const remove = element("button", { type: "button", className: "deig-remove", textContent: "\u2715", title: "Remove" });
    remove.setAttribute("aria-label", `Remove region ${index + 1}`);
    remove.addEventListener("click", () => this.editor.remove(index));

    const row = element("div", { className: "deig-row" }, badge, ...Object.values(inputs), warning, remove);
    row.setAttribute("role", "listitem");
    row.addEventListener("focusin", () => this.editor.selected !== index && this.editor.select(index));
    this.#listenToBadge(badge, index);
    return { element: row, inputs, warning };
  }

  #input(index, key, properties, label) {
    const input = element("input", { type: "text", ...properties });
    input.setAttribute("aria-label", label);
    const typed = () => ({ [key]: input.type === "number" ? Number(input.value || NaN) : input.value });
    input.addEventListener("input", () => this.editor.preview((layout) => withRegion(layout, index, typed())));
    input.addEventListener("change", () => this.#take(input, index, typed()));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") input.blur();
      if (event.key !== "Escape") return;
      this.editor.cancel();
      input.value = this.editor.layout.regions[index][key];
      input.blur();
    });
    return input;
  }

  // Take what was typed if a layout may hold it; else say why not and show the old value again.
  #take(input, index, change) {
    const { editor } = this;
    editor.cancel();
    try {
      const layout = parseLayout(writeLayout(withRegion(editor.layout, index, change)));
      editor.apply(() => layout);
    } catch (error) {
      input.blur();
      editor.say(error.message.replace(/^regions\[\d+\]\.? ?/, `Region ${index + 1} `), true);
      editor.cancel();
    }
  }

  #rowAt(y) {
    return this.rows.findIndex(({ element: row }) => {
      const { top, bottom } = row.getBoundingClientRect();
      return y >= top && y < bottom;
    });
  }

  #listenToBadge(badge, index) {
    badge.addEventListener("pointerdown", (event) => {
      badge.setPointerCapture(event.pointerId);
      this.editor.select(index);
    });
    badge.addEventListener("pointermove", (event) => {
      if (!badge.hasPointerCapture(event.pointerId)) return;
      const target = this.#rowAt(event.clientY);
      this.rows.forEach((row, at) => row.element.classList.toggle("deig-target", at === target && at !== index));
    });
    badge.addEventListener("pointerup", (event) => {
      this.rows.forEach((row) => row.element.classList.remove("deig-target"));
      const target = this.#rowAt(event.clientY);
      if (target >= 0) this.editor.reorder(index, target);
    });
    badge.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "Delete") this.editor.remove(index);
      else if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      if (!step) return;
      this.editor.reorder(index, index + step);
      this.rows[this.editor.selected]?.element.firstChild.focus();
    });
  }
}
