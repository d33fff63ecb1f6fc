// A layout: its text, and the steps in which it is edited. No DOM: node's test runner tests this file.

import { atLeast, boxBetween, carried, reordered } from "./geometry.js";
import { bounds, carriedMask, emptyGrid, fillBox, fineGrid, stamp, toGrid, toMask } from "./mask.js";

const VERSION = 1;
const SETTINGS = { strength: [0, 1e6], start_percent: [0, 1], end_percent: [0, 1] };
const DEFAULTS = { strength: 1, start_percent: 0, end_percent: 1 };
const LAYOUT_KEYS = ["version", "prompt", "regions", "incoming"];
const REGION_KEYS = ["phrase", "box", ...Object.keys(SETTINGS), "mask", "scribble", "point", "radius"];

// How far a scribble and a point reach, as in deig_core/regions/region.py.
export const SCRIBBLE_RADIUS = 0.02;
export const POINT_RADIUS = 0.125;

export const EMPTY_LAYOUT = Object.freeze({ prompt: "", regions: [] });

export function newRegion(box) {
  return { phrase: "", box, ...DEFAULTS };
}

// Read a layout's JSON. Throws an Error that says where and why.
// A phrase may be empty here, though no sampler takes it: a box exists before its words do.
export function parseLayout(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
  if (data === null || typeof data !== "object" || !Array.isArray(data.regions)) {
    throw new Error('A layout is a JSON object with a list "regions".');
  }
  if ((data.version ?? VERSION) !== VERSION) {
    throw new Error(`The layout has version ${data.version}, but this editor reads version ${VERSION}.`);
  }
  onlyKnownKeys(data, LAYOUT_KEYS, "the layout");
  if (data.prompt != null && typeof data.prompt !== "string") throw new Error("prompt should be text.");
  if (data.incoming != null && typeof data.incoming !== "string") throw new Error("incoming should be text.");
  const incoming = data.incoming == null ? {} : { incoming: data.incoming };
  return { prompt: data.prompt ?? "", regions: data.regions.map(parseRegion), ...incoming };
}

function parseRegion(entry, index) {
  const place = `regions[${index}]`;
  if (entry === null || typeof entry !== "object" || Array.isArray(entry)) throw new Error(`${place} should be an object.`);
  onlyKnownKeys(entry, REGION_KEYS, place);
  if (typeof entry.phrase !== "string") throw new Error(`${place}.phrase should be text.`);
  const box = entry.box;
  if (!Array.isArray(box) || box.length !== 4 || !box.every(Number.isFinite)) {
    throw new Error(`${place}.box should be four numbers, [x0, y0, x1, y1].`);
  }
  if (!(0 <= box[0] && box[0] < box[2] && box[2] <= 1 && 0 <= box[1] && box[1] < box[3] && box[3] <= 1)) {
    throw new Error(`${place}.box is [${box}]; edges lie in 0 to 1, with x0 < x1 and y0 < y1.`);
  }
  const settings = {};
  for (const [key, [low, high]] of Object.entries(SETTINGS)) {
    const value = entry[key] ?? DEFAULTS[key];
    if (!(Number.isFinite(value) && value >= low && value <= high)) {
      throw new Error(`${place}.${key} should be a number from ${low} to ${high}.`);
    }
    settings[key] = value;
  }
  if (settings.start_percent > settings.end_percent) throw new Error(`${place} ends before it starts.`);
  if (entry.mask) checkMask(entry.mask, place);
  return { ...entry, ...settings };
}

function checkMask(mask, place) {
  let inside;
  try {
    inside = toGrid(mask).cells.includes(1);
  } catch (error) {
    throw new Error(`${place}.mask cannot be read: ${error.message}`);
  }
  if (!inside) throw new Error(`${place}.mask is empty.`);
}

function onlyKnownKeys(entry, known, place) {
  const unknown = Object.keys(entry).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new Error(`${place} has "${unknown}", which is not one of ${known.join(", ")}.`);
}

// One region a line, as deig_core/regions/layouts/own.py writes it.
export function writeLayout({ prompt, regions, incoming }) {
  const lines = regions.map((region) => `    ${JSON.stringify({ ...region, box: writtenBox(region.box) })}`);
  const inner = lines.length ? `\n${lines.join(",\n")}\n  ` : "";
  const seed = incoming === undefined ? "" : `\n  "incoming": ${JSON.stringify(incoming)},`;
  return `{\n  "version": ${VERSION},\n  "prompt": ${JSON.stringify(prompt)},${seed}\n  "regions": [${inner}]\n}`;
}

const rounded = (value) => Math.round(value * 1e6) / 1e6;

// Six digits, but for a box that would lose its area by them.
function writtenBox(box) {
  const short = box.map(rounded);
  return short[0] < short[2] && short[1] < short[3] ? short : box;
}

// ---- changes: each takes a layout and returns another ----

export function withRegion(layout, index, change) {
  return { ...layout, regions: layout.regions.map((region, at) => (at === index ? { ...region, ...change } : region)) };
}

// A box cannot be thinner than a pixel; its mask, scribble and point go with it.
export function withBox(layout, index, box, size) {
  const region = layout.regions[index];
  const to = atLeast(box, 1, size);
  if (to.every((edge, at) => edge === region.box[at])) return layout;
  const change = { box: to };
  if (region.scribble) change.scribble = region.scribble.map((point) => carried(point, region.box, to));
  if (region.point) change.point = carried(region.point, region.box, to);
  if (region.mask) change.mask = carriedMask(region.mask, region.box, to);
  return withRegion(layout, index, change);
}

// ---- places of any shape ----

// The grid of a region's place, to paint on.
export function gridOf(region, size) {
  if (region.mask) return fineGrid(toGrid(region.mask), size);
  const grid = emptyGrid(size);
  const points = region.scribble ?? (region.point ? [region.point] : []);
  const radius = region.radius ?? (region.scribble ? SCRIBBLE_RADIUS : POINT_RADIUS);
  points.forEach((point, index) => stamp(grid, point, points[index + 1] ?? null, radius, size, 1));
  if (!points.length) fillBox(grid, region.box);
  return grid;
}

// Make a painted grid the region's place, and the box around it its box. An empty grid changes nothing.
export function withGrid(layout, index, grid) {
  const box = bounds(grid);
  if (!box) return layout;
  return withRegion(layout, index, { box, mask: toMask(grid), scribble: undefined, point: undefined, radius: undefined });
}

// A stroke becomes the region's place. The box stays if the stroke lies inside it, and grows to hold it if not.
export function withScribble(layout, index, points, radius, size, isNew) {
  const box = boxAround(points, radius, size, isNew ? null : layout.regions[index].box);
  return withRegion(layout, index, { box, scribble: points, radius, mask: undefined, point: undefined });
}

export function withPoint(layout, index, point, size, isNew) {
  const box = boxAround([point], POINT_RADIUS, size, isNew ? null : layout.regions[index].box);
  return withRegion(layout, index, { box, point, mask: undefined, scribble: undefined, radius: undefined });
}

function boxAround(points, radius, size, holder) {
  const reach = radius * Math.min(size.width, size.height);
  const [dx, dy] = [reach / size.width, reach / size.height];
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const around = boxBetween([Math.min(...xs) - dx, Math.min(...ys) - dy], [Math.max(...xs) + dx, Math.max(...ys) + dy]);
  if (!holder) return around;
  // Only the stroke's middle line has to lie inside the box that was drawn for it.
  const holds = points.every(([x, y]) => x >= holder[0] && x <= holder[2] && y >= holder[1] && y <= holder[3]);
  if (holds) return holder;
  return [...[0, 1].map((at) => Math.min(around[at], holder[at])), ...[2, 3].map((at) => Math.max(around[at], holder[at]))];
}

export function withAdded(layout, region, index = layout.regions.length) {
  return { ...layout, regions: [...layout.regions.slice(0, index), region, ...layout.regions.slice(index)] };
}

export function without(layout, index) {
  return { ...layout, regions: layout.regions.filter((_, at) => at !== index) };
}

export function withOrder(layout, from, to) {
  return { ...layout, regions: reordered(layout.regions, from, to) };
}

// What the hand is doing, beside what is done. The graph's undo keeps the done steps; this keeps the one under
// way, so that a drag of a hundred moves is one step and Escape takes it back whole.
export class Editing {
  #done = EMPTY_LAYOUT;
  #underWay = null;

  get layout() {
    return this.#underWay ?? this.#done;
  }

  get done() {
    return this.#done;
  }

  get isUnderWay() {
    return this.#underWay !== null;
  }

  // Each preview starts from what is done, not from the one before.
  preview(change) {
    this.#underWay = change(this.#done);
  }

  cancel() {
    this.#underWay = null;
  }

  // Make the layout under way the done one. True if that changed anything.
  commit() {
    const changed = this.#underWay !== null && writeLayout(this.#underWay) !== writeLayout(this.#done);
    if (changed) this.#done = this.#underWay;
    this.#underWay = null;
    return changed;
  }

  // Take a layout from its text; if that is broken, keep the old one and throw.
  load(text) {
    this.#done = parseLayout(text);
    this.#underWay = null;
  }
}
