/** Pictures: what is asked about. */

/**
 * @typedef {object} Picture
 * @property {string} name of its file
 * @property {Blob} file as it is sent
 * @property {ImageBitmap} bitmap as it is shown, upright
 * @property {string | null} address where the server has it, for one of its samples
 */

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
    return { name, file, address, bitmap: await createImageBitmap(file, { imageOrientation: "from-image" }) };
  } catch {
    throw new UnusableFile(`“${name}” is not a picture that this browser can show. PNG, JPEG, WebP, GIF and BMP files are.`);
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
