/** The key that the server may want: kept for this tab only, and gone when it closes. */

const PLACE = "paliserve-key";

/** @returns {string} empty: there is none */
export function storedKey() {
  return sessionStorage.getItem(PLACE) ?? "";
}

/** @param {string} key empty: forget it */
export function storeKey(key) {
  if (key) sessionStorage.setItem(PLACE, key);
  else sessionStorage.removeItem(PLACE);
}

/** @returns {Record<string, string>} the headers that a request needs for it */
export function keyHeaders() {
  const key = storedKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}
