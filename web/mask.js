// Masks on a grid: COCO's run lengths, as deig_core/regions/layouts/run_length.py reads them, and the brush that
// paints them. No DOM: node's test runner tests this file.
//
// A mask is { size: [height, width], counts } over the whole picture. A grid is { height, width, cells }, a
// Uint8Array of 0 and 1, row by row. Nothing here changes its arguments, but for `stamp`, which paints its grid.

const FINEST_SIDE = 256; // of a mask drawn here: four times as fine as the tokens of a 512 picture
const MOST_CELLS = 1 << 26; // as in run_length.py

const known = new WeakMap(); // mask -> its grid; masks are never changed, only replaced

// The grid that a mask is drawn on: the picture's shape, `FINEST_SIDE` along the longer side.
export function emptyGrid({ width, height }) {
  const scale = FINEST_SIDE / Math.max(width, height);
  const [columns, rows] = [width, height].map((side) => Math.max(Math.round(side * scale), 1));
  return { height: rows, width: columns, cells: new Uint8Array(rows * columns) };
}

// Read a mask. Throws an Error that says what is wrong with it.
export function toGrid(mask) {
  if (known.has(mask)) return known.get(mask);
  const [height, width] = Array.isArray(mask?.size) ? mask.size : [];
  if (!(Number.isInteger(height) && Number.isInteger(width) && height > 0 && width > 0 && height * width <= MOST_CELLS)) {
    throw new Error("size should be [height, width] in whole numbers.");
  }
  const runs = typeof mask.counts === "string" ? runsFromText(mask.counts) : mask.counts;
  if (!Array.isArray(runs) || !runs.every((run) => Number.isInteger(run) && run >= 0)) throw new Error("counts should be run lengths.");
  if (runs.reduce((sum, run) => sum + run, 0) !== height * width) throw new Error(`counts do not cover ${height} x ${width}.`);
  const cells = new Uint8Array(height * width);
  let at = 0;
  runs.forEach((run, index) => {
    for (const end = at + run; at < end; at++) {
      if (index % 2) cells[(at % height) * width + Math.floor(at / height)] = 1; // the runs go down the columns
    }
  });
  const grid = { height, width, cells };
  known.set(mask, grid);
  return grid;
}

export function toMask({ height, width, cells }) {
  const runs = [0];
  let inside = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (cells[y * width + x] !== inside) {
        inside = 1 - inside;
        runs.push(0);
      }
      runs[runs.length - 1]++;
    }
  }
  const mask = { size: [height, width], counts: runsToText(runs) };
  known.set(mask, { height, width, cells: cells.slice() });
  return mask;
}

function runsFromText(text) {
  const runs = [];
  let [value, shift] = [0, 0];
  for (const character of text) {
    const bits = character.charCodeAt(0) - 48;
    if (bits < 0 || bits > 63 || shift > 30) throw new Error("counts are no run length text.");
    value += (bits & 31) * 2 ** shift;
    shift += 5;
    if (bits & 32) continue;
    if (bits & 16) value -= 2 ** shift;
    runs.push(value + (runs.length > 2 ? runs[runs.length - 2] : 0));
    [value, shift] = [0, 0];
  }
  if (shift) throw new Error("counts end in the middle of a run length.");
  return runs;
}

function runsToText(runs) {
  let text = "";
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    for (let more = true; more; ) {
      const bits = value & 31;
      value >>= 5;
      more = value !== (bits & 16 ? -1 : 0);
      text += String.fromCharCode(48 + (more ? bits | 32 : bits));
    }
  });
  return text;
}

// The box around all that is inside, in fractions; null for an empty grid.
export function bounds({ height, width, cells }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!cells[at]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0 ? null : [left / width, top / height, (right + 1) / width, (bottom + 1) / height];
}

// Another grid of the same cells, at least as fine as one drawn here.
export function fineGrid(grid, size) {
  const fine = emptyGrid(size);
  if (grid.width >= fine.width && grid.height >= fine.height) return { ...grid, cells: grid.cells.slice() };
  return resampled(grid, fine, (x, y) => [x, y]);
}

// Fill `into` with what `source` has at the place, in fractions, that `where` tells for each of its cells' centres.
function resampled(source, into, where) {
  const { height, width, cells } = into;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const [u, v] = where((x + 0.5) / width, (y + 0.5) / height);
      const [column, row] = [Math.floor(u * source.width), Math.floor(v * source.height)];
      const within = column >= 0 && row >= 0 && column < source.width && row < source.height;
      cells[at] = within ? source.cells[row * source.width + column] : 0;
    }
  }
  return into;
}

// Carry a mask from one box to another: it moves and scales as the box does. What is drawn too small to hold any
// cell keeps the one in the middle.
export function carriedMask(mask, from, to) {
  const grid = toGrid(mask);
  const [sx, sy] = [(from[2] - from[0]) / (to[2] - to[0]), (from[3] - from[1]) / (to[3] - to[1])];
  const into = { ...grid, cells: new Uint8Array(grid.cells.length) };
  resampled(grid, into, (x, y) => [from[0] + (x - to[0]) * sx, from[1] + (y - to[1]) * sy]);
  if (!bounds(into)) stamp(into, [(to[0] + to[2]) / 2, (to[1] + to[3]) / 2], null, 0, into, 1);
  return toMask(into);
}

// Paint a grid along a line from `a` to `b` (null: a dab at `a`), points in fractions; `radius` is a fraction of the
// picture's shorter side, `size` the picture's, `value` 1 for the brush and 0 for the eraser.
export function stamp(grid, a, b, radius, size, value) {
  const { height, width, cells } = grid;
  // In cells. They are nearly square, but not wholly where rounding made the grid.
  const shorter = Math.min(size.width, size.height);
  const [rx, ry] = [(radius * shorter * width) / size.width, (radius * shorter * height) / size.height].map((r) => Math.max(r, 0.75));
  const [ax, ay] = [a[0] * width, a[1] * height];
  const [bx, by] = b ? [b[0] * width, b[1] * height] : [ax, ay];
  const [dx, dy] = [(bx - ax) / rx, (by - ay) / ry];
  const length2 = dx * dx + dy * dy;
  const low = (one, other, reach) => Math.max(Math.floor(Math.min(one, other) - reach), 0);
  const high = (one, other, reach, most) => Math.min(Math.ceil(Math.max(one, other) + reach), most - 1);
  for (let y = low(ay, by, ry); y <= high(ay, by, ry, height); y++) {
    for (let x = low(ax, bx, rx); x <= high(ax, bx, rx, width); x++) {
      const [px, py] = [(x + 0.5 - ax) / rx, (y + 0.5 - ay) / ry];
      const along = length2 ? Math.min(Math.max((px * dx + py * dy) / length2, 0), 1) : 0;
      if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= 1) cells[y * width + x] = value;
    }
  }
}

// Fill a box, in fractions, on a grid.
export function fillBox({ height, width, cells }, [x0, y0, x1, y1]) {
  const span = (low, high, count) => {
    const first = Math.min(Math.round(low * count), count - 1);
    return [first, Math.max(Math.round(high * count), first + 1)];
  };
  const [[left, right], [top, bottom]] = [span(x0, x1, width), span(y0, y1, height)];
  for (let y = top; y < bottom; y++) cells.fill(1, y * width + left, y * width + right);
}
