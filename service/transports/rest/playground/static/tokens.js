/** What the model wrote, with its location and mask tokens told from its words. */

import { make } from "./elements.js";

const TOKEN = /(<loc\d{4}>|<seg\d{3}>)/;

/**
 * @param {string} text
 * @returns {Node[]}
 */
export function tokenNodes(text) {
  return text
    .split(TOKEN)
    .filter((part) => part !== "")
    .map((part) => {
      if (!TOKEN.test(part)) return document.createTextNode(part);
      return make("span", { className: part.startsWith("<loc") ? "token location" : "token code", textContent: part });
    });
}
