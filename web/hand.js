// The hand on the canvas: what pointer and keys do to the layout.

import { HANDLE_RADIUS } from "./drawing.js";
import * as geometry from "./geometry.js";
import * as layouts from "./layout.js";
import { TOOLS, Tools } from "./tools.js";

const REACH = HANDLE_RADIUS + 4; // how near to a handle counts as on it, in CSS pixels
const LEAST_DRAG = 4; // a shorter drag is a click that shook

const CURSORS = { n: "ns", s: "ns", e: "ew", w: "ew", nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw" };
const PEN_ERASER = 5; // the button that a pen's other end presses
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Hand {
  #drag = null; // { kind, index, handle, from, start, moved }
  #nudge = null; // { index, move: [dx, dy], grow: [dx, dy] } in fractions, while arrow keys are held
  #cursor = [0.5, 0.5]; // where a tool is that the keys move, in fractions
  lastKey = -Infinity; // when the canvas last had a key pressed, in milliseconds

  // `editor` is the RegionEditor whose canvas the hand works on.
  constructor(editor) {
    this.editor = editor;
    this.tools = new Tools(editor);
    const { canvas } = editor;
    const on = (type, handler) => canvas.addEventListener(type, handler.bind(this));
    on("pointerdown", this.#pointerDown);
    on("pointermove", this.#pointerMove);
    on("pointerup", this.#pointerUp);
    on("pointercancel", () => editor.cancel());
    on("pointerleave", () => this.#hover(-1));
    on("dblclick", this.#doubleClick);
    on("contextmenu", this.#contextMenu);
    on("keydown", this.#keyDown);
    on("keyup", this.#keyUp);
    on("blur", this.#endNudge);
    on("copy", this.#copyEvent);
    on("paste", this.#pasteEvent);
  }

  #pointerDown(event) {
    const erases = event.pointerType === "pen" && event.button === PEN_ERASER;
    if (event.button !== 0 && !erases) return;
    const { editor } = this;
    editor.canvas.focus(); // also ends what is being typed elsewhere
    editor.canvas.setPointerCapture(event.pointerId);
    const from = this.#point(event);
    const tool = erases ? "eraser" : editor.tool;
    if (tool !== "box") {
      this.tools.letGo();
      this.tools.begin(tool, from, { fresh: event.shiftKey, force: this.#force(event) });
      return;
    }
    const boxes = this.#boxes();
    const handle = !event.shiftKey && this.#handleAt(from);
    const index = geometry.nextHit(boxes, from, editor.selected, event.altKey);
    const start = { x: event.clientX, y: event.clientY };
    if (handle) {
      this.#drag = { kind: "resize", index: editor.selected, handle, from, start };
    } else if (index >= 0 && !event.shiftKey) {
      this.#drag = { kind: "move", index, from, start };
      editor.select(index);
    } else {
      this.#drag = { kind: "draw", index: boxes.length, from, start };
    }
  }

  #pointerMove(event) {
    const point = this.#point(event);
    if (this.tools.isDown || this.editor.tool !== "box") {
      this.#moveTool(event, point);
      return;
    }
    if (!this.#drag) {
      this.#hover(geometry.nextHit(this.#boxes(), point, this.editor.selected, false), point, event.shiftKey);
      return;
    }
    const drag = this.#drag;
    drag.moved ||= Math.hypot(event.clientX - drag.start.x, event.clientY - drag.start.y) >= LEAST_DRAG;
    if (drag.moved) this.editor.preview((layout) => this.#dragged(layout, drag, point));
  }

  #moveTool(event, point) {
    this.#cursor = point;
    this.editor.canvas.style.cursor = "crosshair";
    this.editor.showBrush(point);
    if (!this.tools.isDown || !this.editor.canvas.hasPointerCapture(event.pointerId)) return;
    // A fast hand is between two frames at more places than one.
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const one of passed.length ? passed : [event]) this.tools.move(this.#point(one), this.#force(one));
  }

  // A pen's pressure, from a quarter of the brush to the whole; a mouse has none.
  #force({ pointerType, pressure }) {
    return pointerType === "pen" ? 0.25 + 0.75 * pressure : 1;
  }

  // The layout after a drag from `drag.from` to `point`.
  #dragged(layout, { kind, index, handle, from }, point) {
    const { size, host } = this.editor;
    const { snap } = host;
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
    if (this.tools.isDown) {
      this.tools.end();
      return;
    }
    const drag = this.#drag;
    this.#drag = null;
    if (!drag) return;
    if (!drag.moved) {
      if (drag.kind === "draw") this.editor.select(-1);
      return;
    }
    this.editor.commit();
    this.editor.select(drag.index);
    if (drag.kind === "draw") this.editor.editPhrase();
  }

  #hover(index, point = null, draws = false) {
    const { canvas, layout } = this.editor;
    if (!point) this.editor.showBrush(null);
    const handle = point && !draws && this.#handleAt(point);
    const taken = index >= 0 && !draws;
    canvas.style.cursor = handle ? `${CURSORS[handle]}-resize` : taken ? "move" : "crosshair";
    canvas.title = index >= 0 ? layout.regions[index].phrase : "";
    this.editor.hover(index);
  }

  #doubleClick(event) {
    event.preventDefault();
    event.stopPropagation();
    if (this.editor.tool !== "box") return;
    this.editor.editPhrase(geometry.nextHit(this.#boxes(), this.#point(event), this.editor.selected, false));
  }

  #contextMenu(event) {
    event.preventDefault();
    event.stopPropagation();
    const byKey = event.button !== 2;
    if (!byKey) this.editor.select(geometry.nextHit(this.#boxes(), this.#point(event), this.editor.selected, false));
    const { left, top } = this.editor.canvas.getBoundingClientRect();
    this.editor.openMenu(byKey ? { left: left + 20, bottom: top + 20 } : { left: event.clientX, bottom: event.clientY });
  }

  #copyEvent(event) {
    event.preventDefault();
    event.stopPropagation();
    event.clipboardData.setData("text/plain", this.editor.value);
    this.editor.say("Layout copied.");
  }

  #pasteEvent(event) {
    event.preventDefault();
    event.stopPropagation();
    this.editor.take(event.clipboardData.getData("text/plain"));
  }

  // ---- keys ----

  #keyDown(event) {
    this.lastKey = Date.now();
    const { editor } = this;
    const index = editor.selected;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const keys = {
      Delete: () => editor.remove(index),
      Backspace: () => editor.remove(index),
      Enter: () => editor.editPhrase(),
      F2: () => editor.editPhrase(),
      Insert: () => editor.addInTheMiddle(),
      Escape: () => (editor.isUnderWay || this.#drag || this.tools.isDown ? editor.cancel() : editor.select(-1)),
      PageUp: () => this.#goOrReorder(1, event.shiftKey),
      PageDown: () => this.#goOrReorder(-1, event.shiftKey),
    };
    if (control && key === "d") keys.d = () => editor.duplicate(index);
    if (!control && !event.altKey) {
      keys.n = () => editor.addInTheMiddle();
      keys["["] = () => editor.stepBrush(-1);
      keys["]"] = () => editor.stepBrush(1);
      for (const tool of TOOLS) keys[tool.key] = () => editor.setTool(tool.name);
      if (editor.tool !== "box") keys[" "] = () => event.repeat || this.#putDownOrLift();
    }
    if (ARROWS[key] && editor.tool !== "box" && !control) keys[key] = () => this.#moveCursor(ARROWS[key], event.shiftKey);
    else if (ARROWS[key] && index >= 0) keys[key] = () => this.#nudgeBy(ARROWS[key], event.shiftKey, control);
    // Control+Enter and the like are the graph's own.
    if (!keys[key] || (control && key === "Enter")) return;
    event.preventDefault();
    event.stopPropagation();
    keys[key]();
  }

  // Select the region before or after the selected one, or move that one in the order.
  #goOrReorder(step, reorders) {
    const { selected, layout } = this.editor;
    const count = layout.regions.length;
    if (reorders) this.editor.reorder(selected, selected + step);
    else if (count) this.editor.select((Math.max(selected, step > 0 ? -1 : 0) + step + count) % count);
  }

  // Space puts the tool down at the cursor and lifts it again; the arrow keys move the cursor between.
  #putDownOrLift() {
    const { tools, editor } = this;
    editor.showBrush(this.#cursor);
    if (tools.isDown) tools.end();
    else if (tools.begin(editor.tool, this.#cursor) && editor.tool === "point") tools.end();
  }

  #moveCursor([x, y], far) {
    const { width, height } = this.editor.size;
    const step = far ? 32 : 4; // pixels of the picture
    this.#cursor = [this.#cursor[0] + (x * step) / width, this.#cursor[1] + (y * step) / height].map((at) => Math.min(Math.max(at, 0), 1));
    this.editor.showBrush(this.#cursor);
    if (this.tools.isDown) this.tools.move(this.#cursor);
  }

  // Arrow keys move by pixels, or by cells of the grid; with Control they move the right and lower edges.
  #nudgeBy([x, y], far, grows) {
    const step = (far ? 8 : 1) * (this.editor.host.snap ? geometry.CELL_PIXELS : 1);
    this.#nudge ??= { index: this.editor.selected, move: [0, 0], grow: [0, 0] };
    const by = grows ? this.#nudge.grow : this.#nudge.move;
    by[0] += (x * step) / this.editor.size.width;
    by[1] += (y * step) / this.editor.size.height;
    const { index, move, grow } = this.#nudge;
    this.editor.preview((layout) => {
      const [x0, y0, x1, y1] = geometry.movedBy(layout.regions[index].box, move);
      const corner = [Math.max(x1 + grow[0], x0), Math.max(y1 + grow[1], y0)];
      return layouts.withBox(layout, index, geometry.boxBetween([x0, y0], corner), this.editor.size);
    });
  }

  #keyUp(event) {
    if (ARROWS[event.key]) this.#endNudge();
  }

  // All presses until the key is let go are one step.
  #endNudge() {
    if (!this.#nudge) return;
    this.#nudge = null;
    this.editor.commit();
  }

  // Forget the drag or nudge under way.
  letGo() {
    this.#drag = this.#nudge = null;
    this.tools.letGo();
  }

  #point(event) {
    const { left, top, width, height } = this.editor.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  // The handle of the selected region at a point, if one is there.
  #handleAt(point) {
    const box = this.#boxes()[this.editor.selected];
    const { width, height } = this.editor.canvas.getBoundingClientRect();
    return box ? geometry.handleAt(box, point, [REACH / width, REACH / height]) : null;
  }

  #boxes() {
    return this.editor.layout.regions.map((region) => region.box);
  }
}
