/** Pictures: what is asked about. */

/**
 * @typedef {object} Picture
 * @property {string} name of its file
 * @property {Blob} file as it is sent
 * @property {number} width in pixels, upright
 * @property {number} height
 * @property {ImageBitmap} bitmap as it is shown, upright, and smaller where it is large
 * @property {string | null} address where the server has it, for one of its samples
 */

/** Pixels of a bitmap's longer side: more than this no screen shows of it, and those of all that was asked are kept. */
const LONGEST_SIDE = 2048;

/** Why a file cannot be used, in a sentence. */
export class UnusableFile extends Error {}

/**
 * Read a file. Errors: UnusableFile.
 * @param {Blob} file
 * @param {string} name
 * @param {string | null} [address]
 * @returns {Promise<Picture>}
 */
export async function openPicture(file, name, address = null) {
  try {
    const whole = await createImageBitmap(file, { imageOrientation: "from-image" });
    const { width, height } = whole;
    return { name, file, address, width, height, bitmap: await reduced(whole) };
  } catch {
    throw new UnusableFile(`“${name}” is not a picture that this browser can show. PNG, JPEG, WebP, GIF and BMP files are.`);
  }
}

/**
 * @param {ImageBitmap} whole given up where it is too large
 * @returns {Promise<ImageBitmap>}
 */
async function reduced(whole) {
  const share = LONGEST_SIDE / Math.max(whole.width, whole.height);
  if (share >= 1) return whole;
  const [resizeWidth, resizeHeight] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * share)));
  try {
    return await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  } finally {
    whole.close();
  }
}

/**
 * A picture of the server's. Errors: UnusableFile.
 * @param {string} name
 * @returns {Promise<Picture>}
 */
export async function openSample(name) {
  const address = new URL(`playground/${name}`, document.baseURI).href;
  try {
    const response = await fetch(address);
    if (response.ok) return await openPicture(await response.blob(), name, address);
  } catch (error) {
    if (error instanceof UnusableFile) throw error;
  }
  throw new UnusableFile(`The sample picture “${name}” cannot be fetched. See whether the server still runs.`);
}
