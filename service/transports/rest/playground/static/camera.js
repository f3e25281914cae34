/** Taking a photograph: with the camera where the page may have it, else with the device's own camera program. */

import { byId } from "./elements.js";

/**
 * @param {(file: Blob, name: string) => void} taken
 * @param {(sentence: string) => void} failed
 */
export function beginCamera(taken, failed) {
  const dialog = byId("camera");
  const video = byId("camera-video");
  /** @type {MediaStream | null} */
  let stream = null;

  const open = async () => {
    if (!navigator.mediaDevices?.getUserMedia) {
      byId("photograph-file").click();
      return;
    }
    let opened;
    try {
      opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      failed("The camera cannot be used: there is none, or the browser was not allowed to use it.");
      return;
    }
    if (stream) {
      // The button was pressed twice: one of them would never be turned off.
      turnOff(opened);
      return;
    }
    stream = opened;
    dialog.showModal();
    video.srcObject = stream;
    await video.play().catch(() => {});
  };
  const take = async () => {
    const file = await photograph(video);
    // Nothing is shown yet: it comes, or is cancelled.
    if (!file) return;
    dialog.close();
    taken(file, "photograph.jpg");
  };
  const stop = () => {
    if (stream) turnOff(stream);
    stream = null;
    video.srcObject = null;
  };
  byId("photograph").addEventListener("click", open);
  byId("camera-take").addEventListener("click", take);
  byId("camera-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
}

/** @param {MediaStream} stream */
function turnOff(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/**
 * @param {HTMLVideoElement} video
 * @returns {Promise<Blob | null>} null where it shows nothing yet
 */
function photograph(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  if (!canvas.width) return Promise.resolve(null);
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}
