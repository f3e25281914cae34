/** The question: the task, and its fields. */

import { Chips } from "./chips.js";
import { byId, make, show } from "./elements.js";
import { Models } from "./models.js";
import { Region } from "./region.js";
import { TASKS } from "./tasks.js";

/** @typedef {import("./stage.js").Stage} Stage */
/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./samples.js").Sample} Sample */

/**
 * @typedef {object} Question
 * @property {string} task
 * @property {Record<string, unknown>} fields of the request, without what is as the server has it anyway
 * @property {string} choice of the model, to come back to
 */

const LANGUAGES = (
  "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
).split(" ");
const MOST_OBJECTS = 16;
const NUMBERS = ["max_tokens", "temperature", "top_p", "seed"];

/** What is missing, and where. */
export class Incomplete extends Error {
  /**
   * @param {string} sentence
   * @param {string} field its id
   */
  constructor(sentence, field) {
    super(sentence);
    this.field = field;
  }
}

/** The form. */
export class QuestionForm {
  /**
   * @param {Stage} stage
   * @param {() => void} changed
   */
  constructor(stage, changed) {
    this._changed = changed;
    this.objects = new Chips("objects", MOST_OBJECTS, changed);
    this.region = new Region(stage, changed);
    this.models = new Models(() => this._onModel());
    const names = new Intl.DisplayNames(["en"], { type: "language" });
    byId("language").append(...LANGUAGES.map((code) => make("option", { value: code, textContent: `${names.of(code)} (${code})` })));
    byId("language").value = "en";
    byId("tasks").append(...Object.entries(TASKS).map(([name, task]) => this._taskChoice(name, task.title)));
    byId("question-form").addEventListener("input", changed);
    this._showTask();
  }

  /** @returns {string} */
  get task() {
    return byId("question-form").elements.task.value;
  }

  set task(task) {
    byId(`task-${task}`).checked = true;
    this._showTask();
  }

  /** @param {Model[]} models */
  showModels(models) {
    this.models.showModels(models);
    this._onModel();
  }

  /**
   * What is worth asking about a sample; what was typed stays, for another picture.
   * @param {Sample | null} sample
   */
  suggest(sample) {
    this.region.box = sample?.region ?? null;
    if (!sample) return;
    this.objects.words = sample.objects;
    byId("question").value = sample.question;
    if (!byId("prompt").value) byId("prompt").value = `detect ${sample.objects.join(" ; ")}`;
  }

  /**
   * What is asked now. Errors: Incomplete.
   * @returns {Question}
   */
  read() {
    const own = this._ownFields();
    if (this.task === "answer" && !own.question) throw new Incomplete("Write a question first.", "question");
    if ("objects" in own && !this.objects.withTyped.length) throw new Incomplete("Name at least one object first.", "objects");
    if (this.task === "caption-region" && !own.box) throw new Incomplete("Drag a box on the picture first, or write its four sides.", "x_min");
    return { task: this.task, fields: { ...own, ...this.models.fields, ...this._options() }, choice: this.models.choice };
  }

  /**
   * Put a question back.
   * @param {Question} question
   */
  restore({ task, fields, choice }) {
    this.task = task;
    this.models.choose(choice);
    byId("language").value = fields.language ?? "en";
    byId("style").value = fields.style ?? "standard";
    if (fields.question) byId("question").value = fields.question;
    if (fields.prompt !== undefined) byId("prompt").value = fields.prompt;
    byId("objects").value = "";
    if (fields.objects) this.objects.words = /** @type {string[]} */ (fields.objects);
    this.region.box = /** @type {any} */ (fields.box) ?? null;
    byId("adapter").value = fields.adapter ?? "";
    for (const name of NUMBERS) byId(name).value = fields[name] ?? "";
    byId("strict").checked = fields.strict === true;
    this._onModel();
  }

  /** @returns {Record<string, unknown>} */
  _ownFields() {
    const language = byId("language").value;
    const style = byId("style").value;
    const told = language === "en" ? {} : { language };
    const own = {
      caption: () => ({ ...(style === "standard" ? {} : { style }), ...told }),
      answer: () => ({ question: byId("question").value.trim(), ...told }),
      detect: () => ({ objects: this.objects.withTyped }),
      segment: () => ({ objects: this.objects.withTyped }),
      read: () => ({}),
      "caption-region": () => ({ box: this.region.box }),
      generate: () => ({ prompt: byId("prompt").value }),
    };
    return own[/** @type {keyof typeof own} */ (this.task)]();
  }

  /**
   * Errors: Incomplete.
   * @returns {Record<string, unknown>}
   */
  _options() {
    // Of what is no number browsers give nothing away.
    const odd = NUMBERS.find((name) => byId(name).validity.badInput);
    if (odd) throw new Incomplete(`${byId(odd).labels[0].textContent} must be a number.`, odd);
    const given = NUMBERS.filter((name) => byId(name).value !== "").map((name) => [name, Number(byId(name).value)]);
    return { ...Object.fromEntries(given), ...(byId("strict").checked ? { strict: true } : {}) };
  }

  /**
   * @param {string} name
   * @param {string} title
   */
  _taskChoice(name, title) {
    const radio = make("input", { type: "radio", name: "task", value: name, id: `task-${name}`, checked: name === "caption" });
    radio.addEventListener("change", () => this._showTask());
    return make("label", { className: "task" }, radio, make("span", { textContent: title }));
  }

  _onModel() {
    this._showOffered();
    this._changed();
  }

  _showOffered() {
    for (const task of Object.keys(TASKS)) byId(`task-${task}`).disabled = !this.models.offers(task);
  }

  _showTask() {
    const task = TASKS[this.task];
    byId("purpose").textContent = task.purpose;
    for (const field of document.querySelectorAll("[data-field]")) {
      const one = /** @type {HTMLElement} */ (field);
      show(one, task.fields.includes(one.dataset.field ?? ""));
    }
    this.region.active = this.task === "caption-region";
    this._changed();
  }
}
