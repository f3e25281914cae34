/** The answer: its text, what was found, what it took. */

import { percentage } from "./drawing.js";
import { byId, make, show } from "./elements.js";
import { paintMask } from "./masks.js";
import { colourOf, css } from "./palette.js";
import { TASKS } from "./tasks.js";
import { milliseconds, showTimings } from "./timings.js";
import { tokenNodes } from "./tokens.js";

/** @typedef {import("./drawing.js").Found} Found */

/**
 * @typedef {object} Listener
 * @property {(found: Found[]) => void} found told of all that is found so far
 * @property {() => void} toggled
 * @property {(found: Found | null) => void} pointed
 */

/** Shows one answer, while it comes and once it is there. */
export class Results {
  /** @param {Listener} listener */
  constructor(listener) {
    this._listener = listener;
    /** @type {Found[]} */
    this._found = [];
    this._task = "caption";
    this._written = "";
    byId("toggle-all").addEventListener("click", () => this._toggleAll());
  }

  /** @param {string} task that is asked now */
  begin(task) {
    this._task = task;
    this._written = "";
    this._setFound([]);
    this._showText("");
    for (const id of ["problem", "nothing", "details", "no-answer", "time"]) show(byId(id), false);
    byId("results").setAttribute("aria-busy", "true");
    // The same answer once more is read aloud once more.
    byId("announcement").textContent = "";
    this.say("Asking …");
  }

  /** @param {string} sentence */
  say(sentence) {
    byId("status").textContent = sentence;
  }

  /**
   * One event of the answer.
   * @param {import("./event_stream.js").ServerEvent} event
   */
  take({ name, data }) {
    if (name === "token") this._addText(data.text);
    if (name === "detection" || name === "segment") this._setFound([...this._found, asFound(data, this._found.length)]);
  }

  /**
   * The whole answer, which stands for all that came before it.
   * @param {string} task
   * @param {any} answer
   */
  finish(task, answer) {
    this._task = task;
    const text = TASKS[task].text(answer);
    this._showText(text ?? "");
    show(byId("nothing"), text === "" || (text === null && !TASKS[task].found(answer).length));
    byId("nothing").textContent = text === null ? "Nothing of it was found in this picture." : "The model wrote nothing.";
    this._setFound(TASKS[task].found(answer).map(asFound));
    byId("tokens").replaceChildren(...tokenNodes(answer.text));
    byId("json").textContent = JSON.stringify(answer, null, 2);
    showFacts(answer);
    showTimings(byId("bar"), byId("legend"), answer.timings_ms);
    for (const [id, shown] of /** @type {const} */ ([["problem", false], ["no-answer", false], ["details", true], ["time", true]])) {
      show(byId(id), shown);
    }
    byId("results").setAttribute("aria-busy", "false");
    const length = answer.finish_reason === "length" ? " It was cut off at max tokens." : "";
    this.say(`${answer.model} answered in ${milliseconds(answer.timings_ms.total)}.${length}`);
    byId("announcement").textContent = summary(task, answer);
  }

  /**
   * What went wrong. What came of the answer stays.
   * @param {string} title
   * @param {string} detail
   * @param {boolean} again whether it is worth asking again
   */
  fail(title, detail, again) {
    byId("results").setAttribute("aria-busy", "false");
    byId("problem-title").textContent = title;
    byId("problem-detail").textContent = detail;
    show(byId("again"), again);
    show(byId("problem"), true);
    show(byId("no-answer"), false);
    this.say("");
  }

  /** Nothing is asked any more: the picture is another one. */
  clear() {
    this.begin(this._task);
    byId("results").setAttribute("aria-busy", "false");
    show(byId("no-answer"), true);
    this.say("");
  }

  /** @param {Found | null} found that is pointed at */
  highlight(found) {
    byId("found")
      .querySelectorAll("li")
      .forEach((/** @type {HTMLElement} */ row, /** @type {number} */ index) => {
        row.classList.toggle("pointed", this._found[index] === found);
      });
  }

  /** @param {string} text */
  _addText(text) {
    this._written += text;
    byId("answer-text").replaceChildren(...tokenNodes(this._written));
    show(byId("answer-text"), this._written !== "");
  }

  /** @param {string} text */
  _showText(text) {
    byId("answer-text").textContent = text;
    show(byId("answer-text"), text !== "");
  }

  /** @param {Found[]} found */
  _setFound(found) {
    this._found = found;
    byId("found").replaceChildren(...found.map((each) => this._row(each)));
    show(byId("found-area"), found.length > 0);
    byId("found-count").textContent = found.length === 1 ? "1 object" : `${found.length} objects`;
    this._nameToggle();
    this._listener.found(found);
  }

  /** @param {Found} found */
  _row(found) {
    const swatch = make("span", { className: "swatch", textContent: String(found.number), "aria-hidden": true });
    swatch.style.background = css(found.colour);
    swatch.style.color = found.colour.ink;
    const box = make("input", { type: "checkbox", checked: found.shown, "aria-label": `Show ${found.number}, ${found.label}` });
    box.addEventListener("change", () => {
      found.shown = box.checked;
      this._nameToggle();
      this._listener.toggled();
    });
    const score = make("span", { className: "score", textContent: percentage(found), title: "How sure the model is of the box" });
    const name = make("span", { className: "name", textContent: found.label });
    const note = make("span", { className: "note", textContent: found.note });
    const row = make("li", {}, make("label", {}, box, swatch, name), note, score);
    row.addEventListener("pointerenter", () => this._listener.pointed(found));
    row.addEventListener("pointerleave", () => this._listener.pointed(null));
    row.addEventListener("focusin", () => this._listener.pointed(found));
    row.addEventListener("focusout", () => this._listener.pointed(null));
    return row;
  }

  _toggleAll() {
    const shown = !this._found.some((each) => each.shown);
    for (const each of this._found) each.shown = shown;
    for (const box of byId("found").querySelectorAll("input")) box.checked = shown;
    this._nameToggle();
    this._listener.toggled();
  }

  _nameToggle() {
    byId("toggle-all").textContent = this._found.some((each) => each.shown) ? "Hide all" : "Show all";
  }
}

/**
 * The answer in a sentence.
 * @param {string} task
 * @param {any} answer
 */
export function summary(task, answer) {
  const text = TASKS[task].text(answer);
  if (text !== null) return text || "Nothing was written.";
  const labels = TASKS[task].found(answer).map((each) => each.label);
  return labels.length ? `Found: ${labels.join(", ")}` : "Nothing was found.";
}

/**
 * @param {any} each a detection or segment, as the server has it
 * @param {number} index
 * @returns {Found}
 */
function asFound(each, index) {
  const colour = colourOf(index);
  return {
    number: index + 1,
    label: each.label,
    box: each.box,
    score: each.score,
    mask: paintMask(each.mask ?? null, colour),
    colour,
    // A segment may have no mask: see the API.
    note: each.mask === null ? "box only" : "",
    shown: true,
  };
}

/** @param {any} answer */
function showFacts(answer) {
  const { usage, image } = answer;
  const facts = [
    ["Prompt", answer.prompt],
    ["Model", answer.model],
    ["Picture", `${image.width} × ${image.height} pixels, ${usage.image_tokens} tokens`],
    ["Tokens", `${usage.prompt_tokens} of the prompt, ${usage.completion_tokens} written`],
    ["Sure of its words", `${Math.round(answer.score * 100)} %`],
    ["Ended", answer.finish_reason === "stop" ? "by itself" : "at max tokens"],
  ];
  byId("facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]),
  );
}
