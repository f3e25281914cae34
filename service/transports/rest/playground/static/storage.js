/** What a browser keeps for a page. Where it is told to keep nothing, the page does, for as long as it is there. */

/** @typedef {"localStorage" | "sessionStorage"} Kind */

/** @type {Map<string, string>} */
const here = new Map();

/**
 * @param {Kind} kind
 * @param {string} name
 * @returns {string | null} null: nothing is kept
 */
export function kept(kind, name) {
  try {
    return globalThis[kind].getItem(name);
  } catch {
    return here.get(name) ?? null;
  }
}

/**
 * @param {Kind} kind
 * @param {string} name
 * @param {string} value empty: keep nothing
 */
export function keep(kind, name, value) {
  try {
    if (value) globalThis[kind].setItem(name, value);
    else globalThis[kind].removeItem(name);
  } catch {
    if (value) here.set(name, value);
    else here.delete(name);
  }
}
