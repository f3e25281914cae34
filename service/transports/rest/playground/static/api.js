/** What the page asks of the server, and what may go wrong, in sentences. */

import { events } from "./event_stream.js";
import { keyHeaders } from "./key.js";

/** @typedef {import("./event_stream.js").ServerEvent} ServerEvent */

/**
 * @typedef {object} Model an instance, as GET v1/models lists it
 * @property {string} id
 * @property {number} resolution
 * @property {string} state
 * @property {string[]} tasks
 * @property {string[]} adapters
 */

const UNREACHABLE = "No answer came from the server. See whether it still runs and can be reached, then ask again.";
const CUT_OFF = "The connection broke before the answer was complete. See whether the server still runs, then ask again.";

const NO_LIST = "What came is not this server's list of models: the connection broke, or something else answered in its place. Ask again.";

/** What went wrong, told so that it can be shown: a title and a sentence. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} detail
   * @param {string} code the server's code, or the page's own: "unreachable", "cut_off", "unreadable"
   * @param {number | null} retryAfter seconds after which it is worth asking again
   */
  constructor(title, detail, code, retryAfter = null) {
    super(detail);
    this.title = title;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether a key would help. */
  get wantsKey() {
    return this.code === "unauthenticated";
  }
}

/**
 * All instances, the default first. Errors: Problem.
 * @returns {Promise<Model[]>}
 */
export async function listModels() {
  const response = await reach("v1/models", { headers: keyHeaders() });
  const list = await response.json().catch(() => null);
  if (!Array.isArray(list?.data)) throw new Problem("The models cannot be listed", NO_LIST, "unreadable");
  return list.data;
}

/**
 * A task's events as they come; the last one is its result. Errors: Problem; AbortError when `signal` says so.
 * @param {string} task
 * @param {Blob} image
 * @param {string} fileName
 * @param {Record<string, unknown>} fields
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* ask(task, image, fileName, fields, signal) {
  const body = new FormData();
  body.append("image", image, fileName);
  body.append("stream", "true");
  for (const [name, value] of formFields(fields)) body.append(name, value);
  const response = await reach(`v1/${task}`, { method: "POST", body, headers: keyHeaders(), signal });
  let complete = false;
  try {
    for await (const event of events(response.body ?? new Blob().stream())) {
      if (event.name === "error") throw told(event.data);
      complete = event.name === "result";
      yield event;
    }
  } catch (error) {
    // Whatever else broke, it counts only where the answer had not come.
    if (error instanceof Problem || signal.aborted) throw error;
  }
  if (!complete) throw new Problem("The server went away", CUT_OFF, "cut_off");
}

/**
 * Fields as a form has them: lists by repeating the name, boxes as JSON.
 * @param {Record<string, unknown>} fields
 * @returns {[string, string][]}
 */
export function formFields(fields) {
  return Object.entries(fields).flatMap(([name, value]) => {
    if (Array.isArray(value)) return value.map((each) => /** @type {[string, string]} */ ([name, String(each)]));
    return [/** @type {[string, string]} */ ([name, typeof value === "object" ? JSON.stringify(value) : String(value)])];
  });
}

/**
 * @param {string} path relative to the page, which may lie behind a proxy's prefix
 * @param {RequestInit} request
 */
async function reach(path, request) {
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new Problem("The server cannot be reached", UNREACHABLE, "unreachable");
  }
  if (!response.ok) throw await refused(response);
  return response;
}

/** @param {Response} response */
async function refused(response) {
  // A header says it, where there is one.
  const wait = response.headers.get("retry-after") ?? "";
  try {
    return told({ ...(await response.json()), ...(/^\d+$/.test(wait) ? { retry_after: Number(wait) } : {}) });
  } catch {
    // A proxy in between has its own words, in markup.
    const name = `${response.status} ${response.statusText}`.trim();
    return new Problem("The request was refused", `It was answered with “${name}”, and not by this server.`, `http_${response.status}`);
  }
}

/**
 * Errors: TypeError, where it is none.
 * @param {any} document a problem document (RFC 9457)
 */
function told({ title, detail, code, retry_after }) {
  if (typeof title !== "string" || typeof detail !== "string") throw new TypeError("this is no problem document");
  return new Problem(title, detail, String(code), retry_after ?? null);
}
