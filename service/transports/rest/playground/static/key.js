/** The key that the server may want: kept for this tab only, and gone when it closes. */

import { keep, kept } from "./storage.js";

const PLACE = "paliserve-key";

/** @returns {string} empty: there is none */
export function storedKey() {
  return kept("sessionStorage", PLACE) ?? "";
}

/** @param {string} key empty: forget it */
export function storeKey(key) {
  keep("sessionStorage", PLACE, key);
}

/**
 * Whether it could be one: other letters no header carries.
 * @param {string} key
 */
export function isKey(key) {
  return /^[\x20-\xff]+$/.test(key);
}

/** @returns {Record<string, string>} the headers that a request needs for it */
export function keyHeaders() {
  const key = storedKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}
