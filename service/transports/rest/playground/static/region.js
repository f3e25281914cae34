/** The region that is asked about: dragged on the picture, moved by keys, or written as numbers. */

import { byId } from "./elements.js";

/** @typedef {import("./drawing.js").Box} Box */
/** @typedef {import("./stage.js").Stage} Stage */

/** @type {(keyof Box)[]} */
const SIDES = ["x_min", "y_min", "x_max", "y_max"];
const SMALLEST = 2;
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** Parts of the picture that a key moves by. */
const STEP = 0.02;

/** Keeps the stage and the four fields alike. */
export class Region {
  /**
   * @param {Stage} stage
   * @param {() => void} changed
   */
  constructor(stage, changed) {
    this._stage = stage;
    this._changed = changed;
    this._fields = SIDES.map((side) => byId(side));
    this._canvas = byId("canvas");
    this._active = false;
    /** @type {{ x: number, y: number } | null} */
    this._start = null;
    for (const field of this._fields) field.addEventListener("input", () => this._show());
    this._canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => this._begin(event));
    this._canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this._drag(event));
    this._canvas.addEventListener("pointerup", () => this._end());
    this._canvas.addEventListener("pointercancel", () => this._end());
    this._canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this._onKey(event));
  }

  /** @param {boolean} active whether a box is wanted: else the picture scrolls and is pointed at */
  set active(active) {
    this._active = active;
    this._canvas.classList.toggle("drawable", active);
    this._canvas.tabIndex = active ? 0 : -1;
    this._canvas.setAttribute("role", active ? "application" : "img");
    this._canvas.setAttribute("aria-describedby", active ? "region-help" : "");
    this._stage.showRegion(active ? this.box : null);
  }

  /** @returns {Box | null} null where a side is missing */
  get box() {
    const [x_min, y_min, x_max, y_max] = this._fields.map((field) => (field.value === "" ? NaN : Number(field.value)));
    if ([x_min, y_min, x_max, y_max].some(Number.isNaN)) return null;
    return { x_min: Math.min(x_min, x_max), y_min: Math.min(y_min, y_max), x_max: Math.max(x_min, x_max), y_max: Math.max(y_min, y_max) };
  }

  set box(box) {
    SIDES.forEach((side, index) => {
      this._fields[index].value = box ? String(Math.round(box[side])) : "";
    });
    this._show();
  }

  _show() {
    if (this._active) this._stage.showRegion(this.box);
    this._changed();
  }

  /** @param {PointerEvent} event */
  _begin(event) {
    if (!this._active || event.button !== 0) return;
    this._canvas.setPointerCapture(event.pointerId);
    this._start = this._stage.positionOf(event);
  }

  /** @param {PointerEvent} event */
  _drag(event) {
    if (!this._start) return;
    const { x, y } = this._stage.positionOf(event);
    if (Math.abs(x - this._start.x) < SMALLEST || Math.abs(y - this._start.y) < SMALLEST) return;
    this.box = {
      x_min: Math.min(x, this._start.x),
      y_min: Math.min(y, this._start.y),
      x_max: Math.max(x, this._start.x),
      y_max: Math.max(y, this._start.y),
    };
  }

  _end() {
    this._start = null;
  }

  /** @param {KeyboardEvent} event */
  _onKey(event) {
    const arrow = ARROWS[event.key];
    const picture = this._stage.picture;
    if (!this._active || !arrow || !picture) return;
    event.preventDefault();
    const { width, height } = picture;
    const box = this.box ?? { x_min: width / 4, y_min: height / 4, x_max: (3 * width) / 4, y_max: (3 * height) / 4 };
    const across = clamp(arrow[0] * Math.max(1, STEP * width), event.shiftKey ? box.x_min + SMALLEST - box.x_max : -box.x_min, width - box.x_max);
    const down = clamp(arrow[1] * Math.max(1, STEP * height), event.shiftKey ? box.y_min + SMALLEST - box.y_max : -box.y_min, height - box.y_max);
    const moved = event.shiftKey ? 0 : 1;
    this.box = {
      x_min: box.x_min + moved * across,
      y_min: box.y_min + moved * down,
      x_max: box.x_max + across,
      y_max: box.y_max + down,
    };
  }
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function clamp(value, low, high) {
  return Math.max(low, Math.min(value, Math.max(low, high)));
}
