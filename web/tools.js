// Brush, eraser, stroke and point: places drawn with the hand on the canvas, each drag one step.

import { bounds, emptyGrid, stamp } from "./mask.js";
import * as layouts from "./layout.js";

export const TOOLS = [
  { name: "box", key: "r", label: "Box", title: "Box: draw, move and resize (R)" },
  { name: "brush", key: "b", label: "Brush", title: "Brush: paint the place of the selected region, or of a new one (B)" },
  { name: "eraser", key: "e", label: "Eraser", title: "Eraser: take from the place of the selected region (E)" },
  { name: "stroke", key: "s", label: "Stroke", title: "Stroke: a line through the thing is its place (S)" },
  { name: "point", key: "p", label: "Point", title: "Point: a disc around a point is its place (P)" },
];

const STROKE_STEP = 0.004; // points of a stroke lie at least so far apart, as a fraction of the picture

const clamped = (point) => point.map((value) => Math.min(Math.max(value, 0), 1));

export class Tools {
  #at = null; // { tool, index, isNew, grid, points, last } while one is on the canvas

  constructor(editor) {
    this.editor = editor;
  }

  get isDown() {
    return this.#at !== null;
  }

  // Put a tool down at a point, in fractions. `fresh` begins a new region though one is selected; `force` is a pen's
  // pressure, 1 for what has none.
  begin(tool, point, { fresh = false, force = 1 } = {}) {
    const { editor } = this;
    const { regions } = editor.layout;
    const region = fresh ? undefined : regions[editor.selected];
    if (tool === "eraser" && !region) {
      editor.say("Select the region to erase from: click it with the box tool, or its number in the list.");
      return false;
    }
    const paints = tool === "brush" || tool === "eraser";
    const grid = paints ? (region ? layouts.gridOf(region, editor.size) : emptyGrid(editor.size)) : null;
    this.#at = { tool, index: region ? editor.selected : regions.length, isNew: !region, grid, points: [], last: null };
    this.move(point, force);
    return true;
  }

  move(point, force = 1) {
    const { tool, grid, points, last } = this.#at;
    const { editor } = this;
    const at = clamped(point);
    if (grid) stamp(grid, at, last, editor.host.brush * force, editor.size, tool === "brush" ? 1 : 0);
    const end = points[points.length - 1];
    if (!end || Math.hypot(at[0] - end[0], at[1] - end[1]) >= STROKE_STEP) points.push(at);
    this.#at.last = at;
    editor.preview((layout) => this.#changed(layout));
  }

  #changed(layout) {
    const { tool, index, isNew, grid, points, last } = this.#at;
    const { size, host } = this.editor;
    const base = isNew ? layouts.withAdded(layout, layouts.newRegion([0, 0, 1, 1])) : layout;
    if (grid) return layouts.withGrid(base, index, grid);
    if (tool === "stroke") return layouts.withScribble(base, index, points.slice(), host.brush, size, isNew);
    return layouts.withPoint(base, index, last, size, isNew);
  }

  // Lift the tool: what it drew becomes one step.
  end() {
    const { editor } = this;
    const { index, isNew, grid } = this.#at;
    this.#at = null;
    if (grid && !bounds(grid)) {
      editor.cancel();
      editor.say("Nothing would be left of the region, so it stays. Delete removes it.");
      return;
    }
    editor.commit();
    editor.select(index);
    if (isNew) editor.editPhrase();
  }

  // Forget what is under way.
  letGo() {
    this.#at = null;
  }
}
