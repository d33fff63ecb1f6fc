// Boxes and what the hand does with them. No DOM: node's test runner tests this file.
//
// A box is [x0, y0, x1, y1] in fractions of the image. `size` is { width, height } of the image in pixels.
// Nothing here changes its arguments.

export const CELL_PIXELS = 8; // one cell of the latent: the finest token there is

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export function boxBetween([xa, ya], [xb, yb]) {
  return [Math.min(xa, xb), Math.min(ya, yb), Math.max(xa, xb), Math.max(ya, yb)].map((edge) => clamp(edge, 0, 1));
}

export function contains([x0, y0, x1, y1], [x, y]) {
  return x >= x0 && x <= x1 && y >= y0 && y <= y1;
}

// Indices of the boxes at a point, the one in front (the last in the list) first.
export function hits(boxes, point) {
  return boxes.map((_, index) => index).filter((index) => contains(boxes[index], point)).reverse();
}

// Which box a click takes: the front one, or, if it repeats a click, the one below what it took before.
export function nextHit(boxes, point, selected, again) {
  const found = hits(boxes, point);
  if (!found.length) return -1;
  const at = found.indexOf(selected);
  if (at < 0) return found[0];
  return again ? found[(at + 1) % found.length] : selected;
}

// Handles are named by the edges they move: "n", "ne", "e", ...
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

export function handlePoint([x0, y0, x1, y1], handle) {
  const x = handle.includes("w") ? x0 : handle.includes("e") ? x1 : (x0 + x1) / 2;
  const y = handle.includes("n") ? y0 : handle.includes("s") ? y1 : (y0 + y1) / 2;
  return [x, y];
}

// The handle within reach ([x, y] in fractions) of a point; corners are preferred where handles crowd.
export function handleAt(box, [x, y], [reachX, reachY]) {
  const near = HANDLES.filter((handle) => {
    const [hx, hy] = handlePoint(box, handle);
    return Math.abs(hx - x) <= reachX && Math.abs(hy - y) <= reachY;
  });
  return near.sort((a, b) => b.length - a.length)[0] ?? null;
}

function snapEdge(value, pixels) {
  const cells = pixels / CELL_PIXELS;
  return clamp(Math.round(value * cells) / cells, 0, 1);
}

export function snapPoint([x, y], size) {
  return [snapEdge(x, size.width), snapEdge(y, size.height)];
}

export function snapBox([x0, y0, x1, y1], size) {
  const [left, top] = snapPoint([x0, y0], size);
  const [right, bottom] = snapPoint([x1, y1], size);
  return atLeast([left, top, right, bottom], CELL_PIXELS, size);
}

// The same box, grown to the right and down (or left and up at the image's edge) to a least number of pixels.
export function atLeast([x0, y0, x1, y1], pixels, size) {
  const [left, right] = spanAtLeast(x0, x1, Math.min(pixels / size.width, 1));
  const [top, bottom] = spanAtLeast(y0, y1, Math.min(pixels / size.height, 1));
  return [left, top, right, bottom];
}

function spanAtLeast(low, high, least) {
  if (high - low >= least) return [low, high];
  return low + least <= 1 ? [low, low + least] : [1 - least, 1];
}

export function movedBy([x0, y0, x1, y1], [dx, dy]) {
  const [width, height] = [x1 - x0, y1 - y0];
  const left = clamp(x0 + dx, 0, 1 - width);
  const top = clamp(y0 + dy, 0, 1 - height);
  return [left, top, left + width, top + height];
}

// Move a box so that its top left corner lies on the grid; its size stays.
export function movedOnGrid(box, [dx, dy], size) {
  const [x0, y0] = movedBy(box, [dx, dy]);
  const [left, top] = snapPoint([x0, y0], size);
  return movedBy(box, [left - box[0], top - box[1]]);
}

// Move the edges that a handle holds to a point. Drawn over the opposite edge, the box turns inside out.
export function resized([x0, y0, x1, y1], handle, [x, y]) {
  const left = handle.includes("w") ? x : x0;
  const right = handle.includes("e") ? x : x1;
  const top = handle.includes("n") ? y : y0;
  const bottom = handle.includes("s") ? y : y1;
  return boxBetween([left, top], [right, bottom]);
}

// A region that no token of the finest grid lies wholly in: the model hardly sees it.
export function isTiny([x0, y0, x1, y1], size) {
  const slack = 1e-6; // a box of exactly one cell, after its rounding to six digits
  return (x1 - x0) * size.width < CELL_PIXELS - slack * size.width || (y1 - y0) * size.height < CELL_PIXELS - slack * size.height;
}

// Carry a point from one box to another, so that a scribble or point stays where it was in its box.
export function carried([x, y], from, to) {
  const along = (value, f0, f1, t0, t1) => clamp(t0 + ((value - f0) / (f1 - f0)) * (t1 - t0), 0, 1);
  return [along(x, from[0], from[2], to[0], to[2]), along(y, from[1], from[3], to[1], to[3])];
}

// A list with the element at one index moved to another.
export function reordered(list, from, to) {
  const rest = list.filter((_, index) => index !== from);
  const target = clamp(to, 0, rest.length);
  return [...rest.slice(0, target), list[from], ...rest.slice(target)];
}
