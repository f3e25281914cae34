/** Where the time of a request went, as a bar. */

import { make } from "./elements.js";

const STAGES = [
  ["queue", "Queue"],
  ["preprocess", "Preprocess"],
  ["vision", "Vision"],
  ["prefill", "Prefill"],
  ["decode", "Decode"],
];

/**
 * Show the milliseconds of an answer. What lies between the stages is theirs too: the total holds all of it.
 * @param {HTMLElement} bar
 * @param {HTMLElement} legend a list
 * @param {Record<string, number>} timings
 */
export function showTimings(bar, legend, timings) {
  const known = STAGES.map(([stage, title]) => ({ stage, title, time: timings[stage] ?? 0 }));
  const rest = Math.max(0, timings.total - known.reduce((sum, each) => sum + each.time, 0));
  const parts = [...known, { stage: "rest", title: "Between", time: rest }];
  const whole = parts.reduce((sum, each) => sum + each.time, 0) || 1;
  bar.replaceChildren(
    ...parts.map(({ stage, time }) => {
      const part = make("span", { className: `stage ${stage}` });
      part.style.width = `${(100 * time) / whole}%`;
      return part;
    }),
  );
  legend.replaceChildren(
    ...parts.map(({ stage, title, time }) =>
      make("li", {}, make("span", { className: `mark ${stage}` }), `${title} `, make("b", { textContent: milliseconds(time) })),
    ),
  );
}

/** @param {number} time */
export function milliseconds(time) {
  return time < 10 ? `${time.toFixed(1)} ms` : `${Math.round(time)} ms`;
}
