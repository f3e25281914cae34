/** Where labels stand: by their boxes, never outside of the picture, and not on one another where there is room. */

/** @typedef {{ x: number, y: number, width: number, height: number }} Area in pixels of the screen */

/**
 * The area of a label for a box.
 * @param {Area} box
 * @param {number} width of the label
 * @param {number} height of the label
 * @param {Area[]} taken by other labels
 * @param {{ width: number, height: number }} canvas
 * @returns {Area}
 */
export function placeLabel(box, width, height, taken, canvas) {
  const right = box.x + box.width - width;
  const places = [
    [box.x, box.y - height],
    [box.x, box.y + box.height],
    [right, box.y - height],
    [right, box.y + box.height],
    [box.x, box.y],
    [box.x, box.y + box.height - height],
  ].map(([x, y]) => ({ x: Math.max(0, Math.min(x, canvas.width - width)), y, width, height }));
  const inside = places.filter((each) => each.y >= 0 && each.y + height <= canvas.height);
  const free = inside.find((each) => !taken.some((other) => overlap(each, other)));
  const chosen = free ?? inside[0] ?? places[4];
  return { ...chosen, y: Math.max(0, Math.min(chosen.y, canvas.height - height)) };
}

/**
 * The longest beginning of a text that fits, with a mark where it was cut.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} text
 * @param {number} most pixels
 */
export function shorten(pen, text, most) {
  if (pen.measureText(text).width <= most) return text;
  const letters = [...text];
  let low = 0;
  let high = letters.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (pen.measureText(`${letters.slice(0, middle).join("")}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, low).join("")}…`;
}

/**
 * @param {Area} one
 * @param {Area} other
 */
function overlap(one, other) {
  return one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height;
}
