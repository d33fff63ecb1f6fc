// The layout on a 2D canvas context.

import { HANDLES, handlePoint, isTiny } from "./geometry.js";
import { POINT_RADIUS, SCRIBBLE_RADIUS } from "./layout.js";
import { toGrid } from "./mask.js";
import { colourOf, dashOf } from "./palette.js";

const GROUND = "#22242a";
const FONT = "12px system-ui, sans-serif";
const LABEL_HEIGHT = 17;
const CROWD = 12; // from so many regions on, only the one in hand has its whole phrase shown
export const HANDLE_RADIUS = 4;

// `view` is { width, height } of the canvas in CSS pixels; `size` that of the image in pixels; `wired` are the regions
// that come in by a wire and lie behind; `brush` is { point, radius } while one is in hand, else null.
export function drawLayout(context, { layout, view, size, selected, hovered, background, snap, wired, brush }) {
  context.clearRect(0, 0, view.width, view.height);
  context.fillStyle = GROUND;
  context.fillRect(0, 0, view.width, view.height);
  if (background) context.drawImage(background, 0, 0, view.width, view.height);
  if (snap) drawGrid(context, view, size);

  const { regions } = layout;
  wired.forEach((region) => drawWired(context, region, view));
  regions.forEach((region, index) => drawPlace(context, region, colourOf(index), view));
  regions.forEach((region, index) => {
    if (index !== selected) drawBox(context, inPixels(region.box, view), index, index === hovered);
  });
  if (regions[selected]) drawBox(context, inPixels(regions[selected].box, view), selected, true);
  regions.forEach((region, index) => {
    if (index === selected) return;
    const box = inPixels(region.box, view);
    const least = regions.length < CROWD || index === hovered ? view.width / 4 : 0;
    drawLabel(context, box, region, index, size, view, least);
  });
  if (regions[selected]) {
    const box = inPixels(regions[selected].box, view);
    drawLabel(context, box, regions[selected], selected, size, view, view.width / 3);
    drawHandles(context, box);
  }
  if (!regions.length && !wired.length) drawHint(context, view, background);
  if (brush) drawBrush(context, brush, view);
}

export function inPixels([x0, y0, x1, y1], view) {
  return [x0 * view.width, y0 * view.height, x1 * view.width, y1 * view.height];
}

function drawGrid(context, view, size) {
  const step = Math.ceil(6 / ((view.width / size.width) * 8)) * 8; // lines never closer than 6 pixels
  context.strokeStyle = "rgba(255, 255, 255, 0.08)";
  context.lineWidth = 1;
  context.beginPath();
  for (let x = step; x < size.width; x += step) {
    const at = Math.round((x / size.width) * view.width) + 0.5;
    context.moveTo(at, 0);
    context.lineTo(at, view.height);
  }
  for (let y = step; y < size.height; y += step) {
    const at = Math.round((y / size.height) * view.height) + 0.5;
    context.moveTo(0, at);
    context.lineTo(view.width, at);
  }
  context.stroke();
}

function drawBox(context, [x0, y0, x1, y1], index, strong) {
  const width = strong ? 3 : 2;
  context.fillStyle = `${colourOf(index)}${strong ? "30" : "18"}`;
  context.fillRect(x0, y0, x1 - x0, y1 - y0);
  // A dark line beneath keeps the coloured one visible on any picture.
  context.setLineDash([]);
  context.lineWidth = width + 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.75)";
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash(dashOf(index).map((part) => part * width));
  context.lineWidth = width;
  context.strokeStyle = colourOf(index);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

// The exact place, where it is not the box: the mask, else the stroke or the disc around the point, as wide as it
// reaches.
function drawPlace(context, region, colour, view) {
  if (region.mask) {
    context.globalAlpha = PLACE_ALPHA;
    context.drawImage(tintOf(region.mask, colour), 0, 0, view.width, view.height);
    context.globalAlpha = 1;
    return;
  }
  const points = region.scribble ?? (region.point ? [region.point] : []);
  if (!points.length) return;
  const radius = region.radius ?? (region.scribble ? SCRIBBLE_RADIUS : POINT_RADIUS);
  context.globalAlpha = PLACE_ALPHA;
  context.strokeStyle = colour;
  context.lineWidth = 2 * radius * Math.min(view.width, view.height);
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x * view.width, y * view.height));
  if (points.length === 1) context.lineTo(points[0][0] * view.width, points[0][1] * view.height);
  context.stroke();
  context.lineCap = "butt";
  context.lineJoin = "miter";
  context.globalAlpha = 1;
}

const PLACE_ALPHA = 0.5;
const tints = new WeakMap(); // mask -> { colour, canvas }; masks are never changed, only replaced

function tintOf(mask, colour) {
  const old = tints.get(mask);
  if (old?.colour === colour) return old.canvas;
  const { width, height, cells } = toGrid(mask);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  cells.forEach((inside, at) => image.data.set([...rgb, inside ? 255 : 0], 4 * at));
  context.putImageData(image, 0, 0);
  tints.set(mask, { colour, canvas });
  return canvas;
}

// What comes in by a wire cannot be edited here: grey, with its phrase.
function drawWired(context, region, view) {
  const [x0, y0, x1, y1] = inPixels(region.box, view);
  drawPlace(context, region, WIRED, view);
  context.setLineDash([2, 4]);
  context.lineWidth = 1;
  context.strokeStyle = WIRED;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
  context.font = FONT;
  context.textBaseline = "middle";
  context.fillStyle = WIRED;
  context.fillText(fittedText(context, region.phrase, Math.max(x1 - x0 - 8, 40)), x0 + 4, y1 - LABEL_HEIGHT / 2);
}

const WIRED = "#c8c8c8";

function drawBrush(context, { point: [x, y], radius }, view) {
  for (const [colour, by] of [["#000", 1], ["#fff", 0]]) {
    context.beginPath();
    context.arc(x * view.width, y * view.height, radius * Math.min(view.width, view.height) + by, 0, 2 * Math.PI);
    context.lineWidth = 1;
    context.strokeStyle = colour;
    context.stroke();
  }
}

// The number on the region's colour and the phrase beside it, inside the box, or above one that it would hide.
// `least` is the width in pixels that a label may take where its box is narrower.
function drawLabel(context, [x0, y0, x1, y1], region, index, size, view, least) {
  context.font = FONT;
  context.textBaseline = "middle";
  const number = `${index + 1}`;
  const badge = context.measureText(number).width + 8;
  const warning = isTiny(region.box, size) ? "\u26a0 " : "";
  const room = Math.max(x1 - x0, least) - badge - 8;
  const text = fittedText(context, warning + (region.phrase.trim() || "(no phrase)"), room);
  const width = badge + (text ? context.measureText(text).width + 8 : 0);
  const left = Math.max(Math.min(x0, view.width - width), 0);
  const hides = y1 - y0 < LABEL_HEIGHT * 2;
  const outside = y0 >= LABEL_HEIGHT ? y0 - LABEL_HEIGHT : y1;
  const top = Math.max(Math.min(hides ? outside : y0, view.height - LABEL_HEIGHT), 0);

  context.fillStyle = "rgba(0, 0, 0, 0.75)";
  context.fillRect(left, top, width, LABEL_HEIGHT);
  context.fillStyle = colourOf(index);
  context.fillRect(left, top, badge, LABEL_HEIGHT);
  context.fillStyle = "#000";
  context.fillText(number, left + 4, top + LABEL_HEIGHT / 2 + 1);
  context.fillStyle = region.phrase.trim() ? "#fff" : "#ffb4a8";
  context.fillText(text, left + badge + 4, top + LABEL_HEIGHT / 2 + 1);
}

function fittedText(context, text, room) {
  const line = text.slice(0, 400).replace(/\s+/g, " ");
  if (context.measureText(line).width <= room) return line;
  let [low, high] = [0, line.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${line.slice(0, middle)}\u2026`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low ? `${line.slice(0, low)}\u2026` : "";
}

function drawHandles(context, box) {
  context.lineWidth = 1.5;
  for (const handle of HANDLES) {
    const [x, y] = handlePoint(box, handle);
    context.beginPath();
    context.rect(x - HANDLE_RADIUS, y - HANDLE_RADIUS, 2 * HANDLE_RADIUS, 2 * HANDLE_RADIUS);
    context.fillStyle = "#fff";
    context.fill();
    context.strokeStyle = "#000";
    context.stroke();
  }
}

function drawHint(context, view, background) {
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "center";
  const text = "Drag to draw a region";
  if (background) {
    const width = context.measureText(text).width + 16;
    context.fillStyle = "rgba(0, 0, 0, 0.6)";
    context.fillRect((view.width - width) / 2, view.height / 2 - 12, width, 24);
  }
  context.fillStyle = "rgba(255, 255, 255, 0.7)";
  context.fillText(text, view.width / 2, view.height / 2);
  context.textAlign = "start";
}
