/** The tasks: what each is called and for, which fields it has, and what of its answer is read. */

/**
 * @typedef {object} Task
 * @property {string} title
 * @property {string} purpose
 * @property {string[]} fields
 * @property {string} call its method over gRPC
 * @property {(answer: any) => string | null} text null where what was found is the answer
 * @property {(answer: any) => any[]} found
 */

/** @type {Record<string, Task>} */
export const TASKS = {
  caption: {
    title: "Caption",
    purpose: "Describes the picture.",
    fields: ["style", "language"],
    call: "Caption",
    text: (answer) => answer.caption,
    found: () => [],
  },
  answer: {
    title: "Answer",
    purpose: "Answers a question about the picture.",
    fields: ["question", "language"],
    call: "Answer",
    text: (answer) => answer.answer,
    found: () => [],
  },
  detect: {
    title: "Detect",
    purpose: "Finds the objects that you name, and draws a box around each.",
    fields: ["objects"],
    call: "Detect",
    text: () => null,
    found: (answer) => answer.detections,
  },
  segment: {
    title: "Segment",
    purpose: "Finds the objects that you name, and paints each.",
    fields: ["objects"],
    call: "Segment",
    text: () => null,
    found: (answer) => answer.segments,
  },
  read: {
    title: "Read",
    purpose: "Reads the text in the picture.",
    fields: [],
    call: "Read",
    text: (answer) => answer.text_read,
    found: () => [],
  },
  "caption-region": {
    title: "Region",
    purpose: "Describes what lies in a box: drag it on the picture, or write its sides.",
    fields: ["box"],
    call: "CaptionRegion",
    text: (answer) => answer.caption,
    found: () => [],
  },
  generate: {
    title: "Prompt",
    purpose: "Continues any prefix, as a fine-tuned checkpoint wants it.",
    fields: ["prompt"],
    call: "Generate",
    text: (answer) => (answer.detections.length + answer.segments.length ? null : answer.text),
    found: (answer) => [...answer.segments, ...answer.detections],
  },
};
