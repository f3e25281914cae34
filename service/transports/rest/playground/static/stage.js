/** The stage: the picture, what was found on it, and the pointer over it. */

import { areaOf, drawView } from "./drawing.js";
import { byId, show } from "./elements.js";

/** @typedef {import("./drawing.js").Found} Found */
/** @typedef {import("./drawing.js").Box} Box */
/** @typedef {import("./pictures.js").Picture} Picture */

/** Times that a small picture is enlarged at most. */
const LARGEST_SCALE = 3;

/** One canvas that is drawn anew whenever something of it changes. */
export class Stage {
  /** @param {(pointed: Found | null) => void} pointedAt told what lies under the pointer */
  constructor(pointedAt) {
    this._frame = byId("frame");
    this._canvas = byId("canvas");
    this._pointedAt = pointedAt;
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {Found[]} */
    this._found = [];
    /** @type {Found | null} */
    this._highlighted = null;
    /** @type {Box | null} */
    this._region = null;
    this.scale = 1;
    new ResizeObserver(() => this._fit()).observe(this._frame);
    addEventListener("resize", () => this._fit());
    this._canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this._point(event));
    this._canvas.addEventListener("pointerleave", () => this._pointedAt(null));
  }

  /** @param {Picture} picture */
  showPicture(picture) {
    this.picture = picture;
    show(byId("empty"), false);
    show(this._canvas, true);
    this._region = null;
    this.showFound([]);
    this._fit();
  }

  /** @param {Found[]} found */
  showFound(found) {
    this._found = found;
    this._highlighted = null;
    this.draw();
  }

  /** @param {Found | null} found */
  highlight(found) {
    if (found === this._highlighted) return;
    this._highlighted = found;
    this.draw();
  }

  /** @param {Box | null} region */
  showRegion(region) {
    this._region = region;
    this.draw();
  }

  /** Draw it, and say in words what is there. */
  draw() {
    if (!this.picture) return;
    const pen = this._canvas.getContext("2d");
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    drawView(pen, {
      picture: this.picture,
      scale: this.scale,
      found: this._found,
      highlighted: this._highlighted,
      region: this._region,
    });
    const { name, width, height } = this.picture;
    const labels = this._found.filter((each) => each.shown).map((each) => each.label);
    const told = labels.length ? `, with boxes: ${labels.join(", ")}` : "";
    this._canvas.setAttribute("aria-label", `${name}, ${width} by ${height} pixels${told}`);
  }

  /**
   * Where a pointer is, in pixels of the picture, and never beyond it.
   * @param {PointerEvent} event
   * @returns {{ x: number, y: number }}
   */
  positionOf(event) {
    const area = this._canvas.getBoundingClientRect();
    const { width, height } = this.picture ?? { width: 0, height: 0 };
    return {
      x: Math.max(0, Math.min((event.clientX - area.left) / this.scale, width)),
      y: Math.max(0, Math.min((event.clientY - area.top) / this.scale, height)),
    };
  }

  _fit() {
    if (!this.picture) return;
    const { width, height } = this.picture;
    const most = { width: this._frame.clientWidth, height: Math.max(220, Math.min(innerHeight * 0.66, 720)) };
    this.scale = Math.min(most.width / width, most.height / height, LARGEST_SCALE);
    const shown = { width: Math.max(1, Math.floor(width * this.scale)), height: Math.max(1, Math.floor(height * this.scale)) };
    this._canvas.style.width = `${shown.width}px`;
    this._canvas.style.height = `${shown.height}px`;
    this._canvas.width = Math.round(shown.width * devicePixelRatio);
    this._canvas.height = Math.round(shown.height * devicePixelRatio);
    this.draw();
  }

  /** @param {PointerEvent} event */
  _point(event) {
    const { x, y } = this.positionOf(event);
    const under = this._found.filter(({ box, shown }) => shown && x >= box.x_min && x <= box.x_max && y >= box.y_min && y <= box.y_max);
    const size = (/** @type {Found} */ { box }) => areaOf(box, 1).width * areaOf(box, 1).height;
    // The smallest: the others are reached beside it.
    this._pointedAt(under.sort((one, other) => size(one) - size(other))[0] ?? null);
  }
}
