/** The playground: plugs its parts together. */

import { ask, listModels, Problem } from "./api.js";
import { copyText } from "./clipboard.js";
import { byId, show } from "./elements.js";
import { Incomplete, QuestionForm } from "./form.js";
import { History } from "./history.js";
import { isKey, storedKey, storeKey } from "./key.js";
import { writeRequests } from "./requests.js";
import { Results } from "./results.js";
import { SAMPLES } from "./samples.js";
import { beginSources } from "./sources.js";
import { Stage } from "./stage.js";
import { TASKS } from "./tasks.js";
import { beginTheme } from "./theme.js";

/** @typedef {import("./drawing.js").Found} Found */
/** @typedef {import("./form.js").Question} Question */
/** @typedef {import("./history.js").Visit} Visit */
/** @typedef {import("./pictures.js").Picture} Picture */

/** Where the answer stands below the question, and the picture above it, as style.css has it. */
const NARROW = "(max-width: 860px)";

/** The page, with its parts. */
class Playground {
  constructor() {
    this._stage = new Stage((found) => this._point(found));
    this._results = new Results({
      found: (found) => this._stage.showFound(found),
      toggled: () => this._stage.draw(),
      pointed: (found) => this._point(found),
    });
    this._form = new QuestionForm(this._stage, () => this._onChange());
    this._history = new History((visit) => this._goBack(visit));
    /** @type {AbortController | null} */
    this._asking = null;
    this._giveUpOpening = () => {};
  }

  /** Listen, and see what is served. */
  begin() {
    beginTheme();
    this._giveUpOpening = beginSources({
      opened: (picture, sample) => {
        this._abandon();
        this._form.suggest(sample);
        this._showPicture(picture);
        this._results.clear();
      },
      failed: (sentence) => this._results.fail("That picture cannot be used", sentence, false),
    });
    byId("question-form").addEventListener("submit", (/** @type {Event} */ event) => this._submit(event));
    byId("prompt").addEventListener("keydown", submitByKey);
    byId("again").addEventListener("click", () => this._again());
    byId("stop").addEventListener("click", () => this._asking?.abort());
    byId("key-form").addEventListener("submit", (/** @type {Event} */ event) => this._takeKey(event));
    byId("forget-key").addEventListener("click", () => this._forgetKey());
    byId("request-kinds").addEventListener("change", () => this._showRequest());
    for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copyFrom(button));
    show(byId("docs"), document.body.dataset.docs !== "");
    show(byId("forget-key"), storedKey() !== "");
    this._showRequest();
    return this._learnModels();
  }

  async _learnModels() {
    try {
      this._form.showModels(await listModels());
    } catch (error) {
      this._fail(error);
      return false;
    }
    return true;
  }

  /** @param {Event} event */
  _submit(event) {
    event.preventDefault();
    this._form.objects.take();
    if (!this._stage.picture) {
      this._results.fail("There is no picture yet", "Choose, drop, paste or photograph one, or begin with a sample.", false);
      byId("choose").focus();
      return;
    }
    try {
      this._ask(this._stage.picture, this._form.read());
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error;
      this._results.fail("Something is missing", error.message, false);
      byId(error.field).focus();
    }
  }

  /**
   * @param {Picture} picture
   * @param {Question} question
   */
  async _ask(picture, question) {
    this._asking?.abort();
    const asking = new AbortController();
    this._asking = asking;
    this._results.begin(question.task);
    this._showBusy(true);
    try {
      for await (const event of ask(question.task, picture.file, picture.name, question.fields, asking.signal)) {
        asking.signal.throwIfAborted();
        this._results.take(event);
        if (event.name === "result") this._finish({ picture, question, answer: event.data });
      }
    } catch (error) {
      // Somebody who asks anew, or stops, knows of it.
      if (!asking.signal.aborted) this._fail(error);
      else if (this._asking === asking) this._results.fail("Stopped", "You stopped this question.", true);
    } finally {
      if (this._asking === asking) {
        this._asking = null;
        this._showBusy(false);
      }
    }
  }

  /** Whatever is being asked, nobody waits for it any more. */
  _abandon() {
    this._asking?.abort();
    this._asking = null;
    this._showBusy(false);
  }

  /** @param {Visit} visit */
  _finish(visit) {
    this._showBusy(false);
    this._results.finish(visit.question.task, visit.answer);
    this._history.add(visit);
    if (matchMedia(NARROW).matches) bringIntoView(visit);
  }

  /** @param {unknown} error */
  _fail(error) {
    if (!(error instanceof Problem)) throw error;
    const wait = error.retryAfter === null ? "" : ` Ask again in ${error.retryAfter} s.`;
    const refused = error.wantsKey && storedKey() ? "This key is not known here." : error.message;
    this._results.fail(error.wantsKey ? "This server wants a key" : error.title, refused + wait, !error.wantsKey);
    show(byId("key-form"), error.wantsKey);
    if (error.wantsKey) byId("key").focus();
  }

  async _again() {
    // The button that was pressed goes away.
    byId("ask").focus({ preventScroll: true });
    // The server may have come back with other models.
    if (!(await this._learnModels())) return;
    if (this._stage.picture) byId("question-form").requestSubmit();
    else this._results.clear();
  }

  /** @param {Event} event */
  async _takeKey(event) {
    event.preventDefault();
    const key = byId("key").value.trim();
    byId("key").value = "";
    if (!isKey(key)) {
      this._fail(new Problem("", "A key has no such letters: copy it once more.", "unauthenticated"));
      return;
    }
    storeKey(key);
    show(byId("forget-key"), storedKey() !== "");
    show(byId("key-form"), false);
    this._showRequest();
    await this._again();
  }

  _forgetKey() {
    storeKey("");
    show(byId("forget-key"), false);
    this._abandon();
    this._results.clear();
    this._showRequest();
    byId("choose").focus();
  }

  /** @param {Visit} visit */
  _goBack({ picture, question, answer }) {
    this._giveUpOpening();
    this._abandon();
    if (this._stage.picture !== picture) this._showPicture(picture);
    this._form.restore(question);
    this._results.finish(question.task, answer);
    show(byId("key-form"), false);
    byId("frame").scrollIntoView({ block: "nearest" });
  }

  /** @param {Picture} picture */
  _showPicture(picture) {
    const { width, height } = picture;
    byId("picture-name").textContent = `${picture.name} · ${width} × ${height}`;
    const region = this._form.region.box;
    this._stage.showPicture(picture);
    for (const [id, most] of /** @type {const} */ ([["x_min", width], ["x_max", width], ["y_min", height], ["y_max", height]])) byId(id).max = most;
    this._form.region.box = region;
    this._showRequest();
  }

  /** @param {Found | null} found */
  _point(found) {
    this._stage.highlight(found);
    this._results.highlight(found);
  }

  /** @param {boolean} busy */
  _showBusy(busy) {
    const stop = byId("stop");
    // Else who goes by keyboard begins again at the top of the page.
    if (!busy && document.activeElement === stop) byId("ask").focus();
    show(stop, busy);
  }

  _onChange() {
    // The form tells of itself while it is made.
    if (this._form) this._showRequest();
  }

  _showRequest() {
    const kind = byId("request-form").elements.kind.value;
    const place = {
      url: new URL(".", document.baseURI).href,
      grpcPort: Number(document.body.dataset.grpcPort),
      keyed: storedKey() !== "",
    };
    byId("request-text").textContent = requestText(this._form, this._stage.picture, kind, place);
  }
}

/**
 * @param {QuestionForm} form
 * @param {Picture | null} picture
 * @param {string} kind
 * @param {import("./requests.js").Place} place
 */
function requestText(form, picture, kind, place) {
  try {
    return picture ? writeRequests(form.read(), picture, place)[kind] : `Choose a picture, such as ${SAMPLES[0].name}: its request stands here.`;
  } catch (error) {
    if (error instanceof Incomplete) return error.message;
    throw error;
  }
}

/**
 * Where the answer is: on the picture, or in words.
 * @param {Visit} visit
 */
function bringIntoView({ question, answer }) {
  const place = TASKS[question.task].found(answer).length ? "frame" : "results";
  byId(place).scrollIntoView({ block: "nearest" });
}

/** @param {Element} button */
async function copyFrom(button) {
  const one = /** @type {HTMLElement} */ (button);
  const copied = await copyText(byId(one.dataset.copies ?? "").textContent);
  byId("announcement").textContent = copied ? "Copied." : "It could not be copied.";
  one.textContent = copied ? "Copied" : "Select it, and copy";
  setTimeout(() => {
    one.textContent = "Copy";
  }, 1600);
}

/** @param {KeyboardEvent} event */
function submitByKey(event) {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  byId("question-form").requestSubmit();
}

await new Playground().begin();
