/** Which instance answers: by name, by resolution, or the default one. */

import { byId, make, show } from "./elements.js";

/** @typedef {import("./api.js").Model} Model */

/** The list of instances, and of the chosen one's adapters. */
export class Models {
  /** @param {() => void} changed */
  constructor(changed) {
    this._field = byId("model");
    this._adapter = byId("adapter");
    /** @type {Model[]} */
    this._models = [];
    this._field.addEventListener("change", () => {
      this._showAdapters();
      changed();
    });
    this._adapter.addEventListener("change", changed);
  }

  /** @param {Model[]} models the default first */
  showModels(models) {
    const before = this._field.value;
    this._models = models;
    const resolutions = [...new Set(models.map((each) => each.resolution))].sort((one, other) => one - other);
    const byResolution = [option("resolution:auto", "Automatic"), ...resolutions.map((each) => option(`resolution:${each}`, `${each} pixels`))];
    const byName = models.map((each) => option(`model:${each.id}`, each.state === "warm" ? each.id : `${each.id} (${each.state})`));
    this._field.replaceChildren(
      option("", `Default – ${models[0]?.id ?? "none"}`),
      make("optgroup", { label: "By resolution" }, ...byResolution),
      make("optgroup", { label: "By name" }, ...byName),
    );
    this.choose(before);
  }

  /** @param {string} value as `choice` says */
  choose(value) {
    this._field.value = value;
    if (this._field.selectedIndex < 0) this._field.value = "";
    this._showAdapters();
  }

  /** @returns {string} what is chosen, to come back to */
  get choice() {
    return this._field.value;
  }

  /** @returns {Record<string, unknown>} of the request */
  get fields() {
    const [kind, value] = splitOnce(this._field.value);
    /** @type {Record<string, unknown>} */
    const fields = {};
    if (kind === "model") fields.model = value;
    if (kind === "resolution") fields.resolution = value === "auto" ? value : Number(value);
    if (this._adapter.value) fields.adapter = this._adapter.value;
    return fields;
  }

  /**
   * Whether a task can be asked for: of an instance that is chosen by name, or else of any.
   * @param {string} task
   */
  offers(task) {
    const [kind, value] = splitOnce(this._field.value);
    const meant = kind === "model" ? this._models.filter((each) => each.id === value) : this._models;
    return !meant.length || meant.some((each) => each.tasks.includes(task));
  }

  _showAdapters() {
    const [kind, value] = splitOnce(this._field.value);
    // The default one is the first.
    const chosen = kind === "" ? this._models[0] : this._models.find((each) => kind === "model" && each.id === value);
    const before = this._adapter.value;
    const adapters = chosen?.adapters ?? [];
    this._adapter.replaceChildren(option("", "None"), ...adapters.map((each) => option(each, each)));
    this._adapter.value = adapters.includes(before) ? before : "";
    show(byId("adapter-field"), adapters.length > 0);
  }
}

/**
 * @param {string} value
 * @param {string} text
 */
function option(value, text) {
  return make("option", { value, textContent: text });
}

/** @param {string} value */
function splitOnce(value) {
  const at = value.indexOf(":");
  return at < 0 ? ["", value] : [value.slice(0, at), value.slice(at + 1)];
}
