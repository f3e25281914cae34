/** The sample pictures, and what is worth asking about each. */

/**
 * @typedef {object} Sample
 * @property {string} name
 * @property {string} description
 * @property {string[]} objects
 * @property {string} question
 * @property {import("./drawing.js").Box} region
 */

/** @type {Sample[]} */
export const SAMPLES = [
  {
    name: "scene.png",
    description: "A green square, a purple star and a sign that says GIFT",
    objects: ["purple star", "green square", "sign"],
    question: "what color is the star?",
    region: { x_min: 470, y_min: 75, x_max: 616, y_max: 222 },
  },
  {
    name: "shapes.png",
    description: "Two hearts and two stars",
    objects: ["red heart", "yellow heart"],
    question: "how many hearts are there?",
    region: { x_min: 240, y_min: 140, x_max: 550, y_max: 330 },
  },
  {
    name: "sign.png",
    description: "A triangle, a circle, a heart and a sign that says LOVE",
    objects: ["blue heart", "purple circle"],
    question: "what color is the heart?",
    region: { x_min: 260, y_min: 262, x_max: 356, y_max: 380 },
  },
  {
    name: "small.png",
    description: "Things that are too small for 224 pixels: a square, a star and a sign that says WORD",
    objects: ["orange square", "green star", "sign"],
    question: "what color is the star?",
    region: { x_min: 680, y_min: 68, x_max: 766, y_max: 128 },
  },
];
