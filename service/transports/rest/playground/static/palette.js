/** Colours for what was found: Okabe and Ito's, told apart by colour-blind people too; behind them the same again, with broken lines. */

/** @typedef {{ rgb: [number, number, number], ink: string, broken: boolean }} Colour `ink` is readable on it */

const DARK = "#111111";
const LIGHT = "#ffffff";

/** @type {[number, number, number, string][]} */
const COLOURS = [
  [213, 94, 0, DARK],
  [86, 180, 233, DARK],
  [240, 228, 66, DARK],
  [0, 114, 178, LIGHT],
  [230, 159, 0, DARK],
  [0, 158, 115, DARK],
  [204, 121, 167, DARK],
];

/**
 * @param {number} index of what was found
 * @returns {Colour}
 */
export function colourOf(index) {
  const [red, green, blue, ink] = COLOURS[index % COLOURS.length];
  return { rgb: [red, green, blue], ink, broken: Math.floor(index / COLOURS.length) % 2 === 1 };
}

/**
 * As CSS writes it.
 * @param {Colour} colour
 * @param {number} [opacity]
 */
export function css({ rgb }, opacity = 1) {
  return `rgb(${rgb.join(" ")} / ${opacity})`;
}
