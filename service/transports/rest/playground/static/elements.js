/** Finding and making elements. Text goes in as text: nothing here, or anywhere on the page, reads markup. */

/**
 * The page's element with this id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * A new element.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] properties of the element; names with a hyphen, and role, are attributes
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, String(value));
    else Reflect.set(made, name, value);
  }
  made.append(...children);
  return made;
}

/**
 * Show an element, or take it off the page for everybody.
 * @param {HTMLElement} which
 * @param {boolean} shown
 */
export function show(which, shown) {
  which.hidden = !shown;
}
