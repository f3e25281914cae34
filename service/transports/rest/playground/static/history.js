/** What was asked in this tab: nothing of it is stored anywhere else. */

import { byId, make, show } from "./elements.js";
import { summary } from "./results.js";
import { TASKS } from "./tasks.js";

/**
 * @typedef {object} Visit
 * @property {import("./pictures.js").Picture} picture
 * @property {import("./form.js").Question} question
 * @property {any} answer
 */

const MOST = 24;
const THUMBNAIL = 56;

/** The latest questions, the last one first. */
export class History {
  /** @param {(visit: Visit) => void} chosen */
  constructor(chosen) {
    this._chosen = chosen;
    this._list = byId("history-list");
    byId("clear-history").addEventListener("click", () => {
      this._list.replaceChildren();
      show(byId("history"), false);
      byId("choose").focus();
    });
  }

  /** @param {Visit} visit */
  add(visit) {
    const { picture, question, answer } = visit;
    const told = make("span", { className: "told", textContent: summary(question.task, answer) });
    const asked = make("span", { className: "asked", textContent: `${TASKS[question.task].title} · ${answer.model}` });
    const button = make("button", { type: "button" }, thumbnail(picture.bitmap), make("span", { className: "lines" }, asked, told));
    button.addEventListener("click", () => this._chosen(visit));
    this._list.prepend(make("li", {}, button));
    while (this._list.children.length > MOST) this._list.lastElementChild.remove();
    show(byId("history"), true);
  }
}

/**
 * The middle of a picture.
 * @param {ImageBitmap} bitmap
 */
function thumbnail(bitmap) {
  const canvas = make("canvas", { width: 2 * THUMBNAIL, height: 2 * THUMBNAIL, "aria-hidden": true });
  const side = Math.min(bitmap.width, bitmap.height);
  const left = (bitmap.width - side) / 2;
  const top = (bitmap.height - side) / 2;
  canvas.getContext("2d")?.drawImage(bitmap, left, top, side, side, 0, 0, canvas.width, canvas.height);
  return canvas;
}
