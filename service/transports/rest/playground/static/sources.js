/** Where pictures come from: chosen, dropped, pasted, photographed, or one of the samples. */

import { beginCamera } from "./camera.js";
import { byId, make } from "./elements.js";
import { openPicture, openSample } from "./pictures.js";
import { SAMPLES } from "./samples.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("./samples.js").Sample} Sample */

/**
 * @typedef {object} Receiver
 * @property {(picture: Picture, sample: Sample | null) => void} opened
 * @property {(sentence: string) => void} failed
 */

/**
 * Listen to all of them.
 * @param {Receiver} receiver
 * @returns {() => void} gives up what is being opened
 */
export function beginSources(receiver) {
  let latest = 0;
  /**
   * @param {Promise<Picture>} opening
   * @param {Sample | null} sample
   */
  const open = async (opening, sample) => {
    // The last choice counts, also where an earlier one takes longer.
    latest += 1;
    const mine = latest;
    try {
      const picture = await opening;
      if (mine === latest) receiver.opened(picture, sample);
      else picture.bitmap.close();
    } catch (error) {
      if (mine === latest) receiver.failed(error instanceof Error ? error.message : String(error));
    }
  };
  /**
   * @param {Blob} file
   * @param {string} name
   */
  const openFile = (file, name) => open(openPicture(file, name), null);
  listenToFiles(openFile);
  listenToDrops(openFile, receiver.failed);
  listenToPastes(openFile);
  beginCamera(openFile, receiver.failed);
  byId("samples").replaceChildren(
    ...SAMPLES.map((sample) => {
      const picture = make("img", { src: `playground/${sample.name}`, alt: "", width: 88, height: 66 });
      const button = make("button", { type: "button", className: "sample", "aria-label": `Sample: ${sample.description}` }, picture);
      button.title = sample.description;
      button.addEventListener("click", () => open(openSample(sample.name), sample));
      return make("li", {}, button);
    }),
  );
  return () => {
    latest += 1;
  };
}

/** @param {(file: Blob, name: string) => void} openFile */
function listenToFiles(openFile) {
  for (const id of ["file", "photograph-file"]) {
    const field = byId(id);
    field.addEventListener("change", () => {
      const [file] = field.files;
      // The same file may be chosen again.
      field.value = "";
      if (file) openFile(file, file.name);
    });
  }
  byId("choose").addEventListener("click", () => byId("file").click());
}

/**
 * @param {(file: Blob, name: string) => void} openFile
 * @param {(sentence: string) => void} failed
 */
function listenToDrops(openFile, failed) {
  const frame = byId("frame");
  let inside = 0;
  /** @param {number} change */
  const count = (change) => {
    inside = Math.max(0, inside + change);
    frame.classList.toggle("dropping", inside > 0);
  };
  addEventListener("dragenter", () => count(1));
  addEventListener("dragleave", () => count(-1));
  addEventListener("dragover", (event) => {
    if (!isTextForField(event, event.dataTransfer)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    count(-inside);
    if (isTextForField(event, event.dataTransfer)) return;
    // Else the browser leaves the page for the file.
    event.preventDefault();
    const [file] = event.dataTransfer?.files ?? [];
    if (file) openFile(file, file.name);
    else failed("That was no file. Drop a picture's file, or copy the picture and paste it.");
  });
}

/** @param {(file: Blob, name: string) => void} openFile */
function listenToPastes(openFile) {
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file || isTextForField(event, event.clipboardData)) return;
    event.preventDefault();
    openFile(file, file.name || "pasted.png");
  });
}

/**
 * Whether it is words for a field: some programs copy a picture of them, too.
 * @param {Event} event
 * @param {DataTransfer | null} data
 */
function isTextForField({ target }, data) {
  const isField = target instanceof Element && target.matches("input:not([type=radio], [type=checkbox]), textarea");
  return isField && data?.types.includes("text/plain") === true;
}
