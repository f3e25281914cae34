/** Masks as pictures of one colour, which are drawn over the picture. */

import { decodeMask } from "./run_lengths.js";

/** @typedef {import("./palette.js").Colour} Colour */

/** Pixels of a painted mask's longer side: more than this no screen shows of it, and sixteen of them take room. */
const LONGEST_SIDE = 1024;
const INSIDE = 115;
const EDGE = 235;

/**
 * @param {{ format: string, size: [number, number], counts: string } | null} mask run lengths of the whole picture
 * @param {Colour} colour
 * @returns {HTMLCanvasElement | null} null: there is none
 */
export function paintMask(mask, colour) {
  if (mask?.format !== "rle") return null;
  const [height, width] = mask.size;
  const step = Math.max(1, Math.ceil(Math.max(height, width) / LONGEST_SIDE));
  const { covered, rows, columns } = decodeMask(mask.counts, height, width, step);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  const [red, green, blue] = colour.rgb;
  for (let at = 0; at < covered.length; at += 1) {
    if (!covered[at]) continue;
    // One by one: an array for each pixel takes twenty times as long.
    pixels.data[at * 4] = red;
    pixels.data[at * 4 + 1] = green;
    pixels.data[at * 4 + 2] = blue;
    pixels.data[at * 4 + 3] = isInside(covered, at, columns) ? INSIDE : EDGE;
  }
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Whether the mask goes on all around. Beyond the picture it does not.
 * @param {Uint8Array} covered
 * @param {number} at
 * @param {number} columns
 */
function isInside(covered, at, columns) {
  const x = at % columns;
  return x > 0 && x < columns - 1 && covered[at - 1] && covered[at + 1] && covered[at - columns] && covered[at + columns];
}
