/** The picture with what was found on it. */

import { placeLabel, shorten } from "./labels.js";
import { css } from "./palette.js";

/**
 * @typedef {{ x_min: number, y_min: number, x_max: number, y_max: number }} Box in pixels of the picture
 * @typedef {import("./palette.js").Colour} Colour
 * @typedef {import("./labels.js").Area} Area
 *
 * @typedef {object} Found
 * @property {number} number counted from one, as the list has it
 * @property {string} label
 * @property {Box} box
 * @property {number} score 0 to 1
 * @property {HTMLCanvasElement | null} mask over the whole picture
 * @property {Colour} colour
 * @property {string} note what else the list says of it
 * @property {boolean} shown
 *
 * @typedef {object} View what is to be drawn
 * @property {import("./pictures.js").Picture} picture
 * @property {number} scale pixels of the screen for one of the picture
 * @property {Found[]} found
 * @property {Found | null} highlighted
 * @property {Box | null} region
 */

const FAINT = 0.25;
const LINE = 3;
const TYPE = "600 13px system-ui, sans-serif";
const LABEL_HEIGHT = 22;
const PADDING = 7;
const REGION = "#ffffff";
const HALO = "rgb(0 0 0 / 0.5)";

/**
 * Draw all of it.
 * @param {CanvasRenderingContext2D} pen in pixels of the screen
 * @param {View} view
 */
export function drawView(pen, view) {
  const width = view.picture.width * view.scale;
  const height = view.picture.height * view.scale;
  pen.clearRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(view.picture.bitmap, 0, 0, width, height);
  const shown = view.found.filter((each) => each.shown);
  /** @param {Found} each */
  const strength = (each) => (view.highlighted && view.highlighted !== each ? FAINT : 1);
  for (const each of shown) drawMask(pen, each, width, height, strength(each));
  for (const each of shown) drawBox(pen, areaOf(each.box, view.scale), each, strength(each));
  /** @type {Area[]} */
  const taken = [];
  // The one that is pointed at comes last: its label lies above the others.
  for (const each of [...shown].sort((one, other) => strength(one) - strength(other))) {
    taken.push(drawLabel(pen, areaOf(each.box, view.scale), each, strength(each), taken, { width, height }));
  }
  if (view.region) drawRegion(pen, areaOf(view.region, view.scale));
}

/**
 * A box on the screen.
 * @param {Box} box
 * @param {number} scale
 * @returns {Area}
 */
export function areaOf(box, scale) {
  return { x: box.x_min * scale, y: box.y_min * scale, width: (box.x_max - box.x_min) * scale, height: (box.y_max - box.y_min) * scale };
}

/** @param {Found} found */
export function percentage(found) {
  return `${Math.round(found.score * 100)} %`;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Found} found
 * @param {number} width
 * @param {number} height
 * @param {number} strength
 */
function drawMask(pen, found, width, height, strength) {
  if (!found.mask) return;
  pen.globalAlpha = strength;
  pen.drawImage(found.mask, 0, 0, width, height);
  pen.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Area} area
 * @param {Found} found
 * @param {number} strength
 */
function drawBox(pen, area, found, strength) {
  pen.globalAlpha = strength;
  pen.lineWidth = LINE + 2;
  pen.strokeStyle = HALO;
  pen.strokeRect(area.x, area.y, area.width, area.height);
  pen.setLineDash(found.colour.broken ? [10, 6] : []);
  pen.lineWidth = LINE;
  pen.strokeStyle = css(found.colour);
  pen.strokeRect(area.x, area.y, area.width, area.height);
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Area} area of the box
 * @param {Found} found
 * @param {number} strength
 * @param {Area[]} taken
 * @param {{ width: number, height: number }} canvas
 * @returns {Area} what it takes
 */
function drawLabel(pen, area, found, strength, taken, canvas) {
  pen.font = TYPE;
  const score = `  ${percentage(found)}`;
  const most = Math.max(0, canvas.width - 2 * PADDING - pen.measureText(score).width);
  const text = shorten(pen, `${found.number}  ${found.label}`, most) + score;
  const width = Math.min(canvas.width, pen.measureText(text).width + 2 * PADDING);
  const place = placeLabel(area, width, LABEL_HEIGHT, taken, canvas);
  pen.globalAlpha = strength;
  pen.fillStyle = css(found.colour);
  pen.beginPath();
  pen.roundRect(place.x, place.y, place.width, place.height, 4);
  pen.fill();
  pen.fillStyle = found.colour.ink;
  pen.textBaseline = "middle";
  pen.fillText(text, place.x + PADDING, place.y + place.height / 2 + 0.5);
  pen.globalAlpha = 1;
  return place;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Area} area
 */
function drawRegion(pen, area) {
  pen.fillStyle = "rgb(255 255 255 / 0.12)";
  pen.fillRect(area.x, area.y, area.width, area.height);
  pen.lineWidth = LINE + 2;
  pen.strokeStyle = HALO;
  pen.strokeRect(area.x, area.y, area.width, area.height);
  pen.lineWidth = LINE - 1;
  pen.setLineDash([6, 4]);
  pen.strokeStyle = REGION;
  pen.strokeRect(area.x, area.y, area.width, area.height);
  pen.setLineDash([]);
}
