/** COCO's compressed run lengths: how masks come. */

/**
 * The runs of a mask, column by column, beginning with what is outside of it. Each number is written in groups of five bits, the lowest
 * first, 48 added to each; from the fourth on it is the difference to the one two before.
 * @param {string} counts
 * @returns {number[]}
 */
export function runLengths(counts) {
  /** @type {number[]} */
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let weight = 1;
    let group;
    do {
      group = counts.charCodeAt(at) - 48;
      value += (group & 31) * weight;
      weight *= 32;
      at += 1;
    } while (group & 32 && at < counts.length);
    // Numbers have no fixed width, so that the sign stands in the last group.
    if (group & 16) value -= weight;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/**
 * A mask, row by row, 1 where it covers the picture. Every `step`-th pixel of every `step`-th row is taken.
 * @param {string} counts
 * @param {number} height of the picture
 * @param {number} width of the picture
 * @param {number} [step]
 * @returns {{ covered: Uint8Array, rows: number, columns: number }}
 */
export function decodeMask(counts, height, width, step = 1) {
  const rows = Math.ceil(height / step);
  const columns = Math.ceil(width / step);
  const covered = new Uint8Array(rows * columns);
  let position = 0;
  runLengths(counts).forEach((length, index) => {
    const end = Math.min(position + length, height * width);
    if (index % 2 === 1) cover(covered, columns, position, end, height, step);
    position = end;
  });
  return { covered, rows, columns };
}

/**
 * @param {Uint8Array} covered
 * @param {number} columns
 * @param {number} begin first position of a run, counted down the columns
 * @param {number} end the position behind it
 * @param {number} height
 * @param {number} step
 */
function cover(covered, columns, begin, end, height, step) {
  const first = Math.ceil(Math.floor(begin / height) / step) * step;
  for (let x = first; x * height < end; x += step) {
    const top = Math.max(0, begin - x * height);
    const bottom = Math.min(height, end - x * height);
    for (let y = Math.ceil(top / step) * step; y < bottom; y += step) covered[(y / step) * columns + x / step] = 1;
  }
}
