/** A list of words that are typed one by one. */

import { byId, make } from "./elements.js";

const SEPARATORS = /[;,\n]/;

/** Names of objects, as chips beside the field they are typed in. */
export class Chips {
  /**
   * @param {string} id of the field; its list is `${id}-list`
   * @param {number} most
   * @param {() => void} changed
   */
  constructor(id, most, changed) {
    this._field = byId(id);
    this._list = byId(`${id}-list`);
    this._most = most;
    this._changed = changed;
    /** @type {string[]} */
    this._words = [];
    this._field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this._onKey(event));
    this._field.addEventListener("input", () => this._onInput());
  }

  /** @returns {string[]} */
  get words() {
    return [...this._words];
  }

  set words(words) {
    this._words = [...new Set(words)].slice(0, this._most);
    this._show();
  }

  /** @returns {string[]} the words, and what is typed so far */
  get withTyped() {
    const typed = this._field.value.split(SEPARATORS).map((/** @type {string} */ each) => each.trim().replaceAll(/\s+/g, " "));
    return [...new Set([...this._words, ...typed.filter((/** @type {string} */ each) => each !== "")])].slice(0, this._most);
  }

  /** Make chips of what is typed so far. */
  take() {
    const words = this.withTyped;
    this._field.value = "";
    this.words = words;
  }

  /** @param {KeyboardEvent} event */
  _onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && this._field.value.trim()) {
      // Once nothing is typed, the key asks.
      event.preventDefault();
      this.take();
    } else if (event.key === "Backspace" && !this._field.value && this._words.length) {
      this.words = this._words.slice(0, -1);
    }
  }

  _onInput() {
    if (SEPARATORS.test(this._field.value)) this.take();
  }

  /** @param {string} word */
  _remove(word) {
    const at = this._words.indexOf(word);
    this.words = this._words.filter((each) => each !== word);
    const next = this._list.querySelectorAll("button")[Math.min(at, this._words.length - 1)];
    (next ?? this._field).focus();
  }

  _show() {
    this._list.replaceChildren(
      ...this._words.map((word) => {
        const button = make("button", { type: "button", className: "remove", "aria-label": `Remove ${word}`, textContent: "×" });
        button.addEventListener("click", () => this._remove(word));
        return make("li", { className: "chip" }, make("span", { textContent: word }), button);
      }),
    );
    this._changed();
  }
}
