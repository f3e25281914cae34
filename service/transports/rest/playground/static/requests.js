/** The request as others would write it: to copy, and it works. */

import { formFields } from "./api.js";
import { TASKS } from "./tasks.js";

/** @typedef {import("./form.js").Question} Question */
/** @typedef {import("./pictures.js").Picture} Picture */

/**
 * @typedef {object} Place where the server is
 * @property {string} url of the page, with a slash at its end
 * @property {number} grpcPort 0: none
 * @property {boolean} keyed whether a key is wanted
 */

/** The key is never written out: who copies a request shows it to others. */
const KEY = "$PALISERVE_KEY";
const FILE_NAME = /^[\p{L}\p{N}._ -]+$/u;

/**
 * By language.
 * @param {Question} question
 * @param {Picture} picture
 * @param {Place} place
 * @returns {Record<string, string>}
 */
export function writeRequests(question, picture, place) {
  return {
    curl: curl(question, picture, place),
    fetch: browser(question, picture, place),
    python: python(question, picture, place),
    grpcurl: place.grpcPort ? grpcurl(question, picture, place) : "# gRPC is off on this server.",
  };
}

/**
 * A name that no shell and no form takes for more than a name.
 * @param {Picture} picture
 */
function nameOf(picture) {
  const plain = FILE_NAME.test(picture.name) && !picture.name.startsWith("-");
  return plain ? picture.name : "picture";
}

/** @param {string} text */
function quoted(text) {
  return /^[A-Za-z0-9_./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * @param {Picture} picture
 * @returns {string[]} lines that bring one of the server's pictures
 */
function fetched(picture) {
  return picture.address ? [`curl -s -o ${quoted(nameOf(picture))} ${quoted(picture.address)}`] : [];
}

/**
 * @param {Question} question
 * @param {Picture} picture
 * @param {Place} place
 */
function curl({ task, fields }, picture, { url, keyed }) {
  const parts = [`curl -s ${quoted(`${url}v1/${task}`)}`];
  if (keyed) parts.push(`-H "Authorization: Bearer ${KEY}"`);
  parts.push(`-F ${quoted(`image=@${nameOf(picture)}`)}`);
  // Text is sent as it is: -F would read a file for a leading @.
  for (const [name, value] of formFields(fields)) parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
  return [...fetched(picture), parts.join(" \\\n  ")].join("\n");
}

/**
 * @param {Question} question
 * @param {Picture} picture
 * @param {Place} place
 */
function browser({ task, fields }, picture, { url, keyed }) {
  const image = picture.address
    ? `await (await fetch(${JSON.stringify(picture.address)})).blob()`
    : `document.querySelector("input[type=file]").files[0]`;
  const key = keyed ? ", headers: { authorization: `Bearer ${key}` }" : "";
  return [
    "const form = new FormData();",
    `form.append("image", ${image}, ${JSON.stringify(nameOf(picture))});`,
    ...formFields(fields).map(([name, value]) => `form.append(${JSON.stringify(name)}, ${JSON.stringify(value)});`),
    `const response = await fetch(${JSON.stringify(`${url}v1/${task}`)}, { method: "POST", body: form${key} });`,
    "console.log(await response.json());",
  ].join("\n");
}

/**
 * @param {Question} question
 * @param {Picture} picture
 * @param {Place} place
 */
function python({ task, fields }, picture, { url, keyed }) {
  const values = Object.entries(fields).map(([name, value]) => {
    const sent = Array.isArray(value) ? `[${value.map((each) => JSON.stringify(each)).join(", ")}]` : JSON.stringify(formFields({ [name]: value })[0][1]);
    return `${JSON.stringify(name)}: ${sent}`;
  });
  const image = picture.address ? `httpx.get(${JSON.stringify(picture.address)}).content` : `open(${JSON.stringify(nameOf(picture))}, "rb").read()`;
  const name = JSON.stringify(nameOf(picture));
  return [
    ...(keyed ? ["import os", ""] : []),
    "import httpx",
    "",
    `image = ${image}`,
    "response = httpx.post(",
    `    ${JSON.stringify(`${url}v1/${task}`)},`,
    `    files={"image": (${name}, image)},`,
    `    data={${values.join(", ")}},`,
    ...(keyed ? ['    headers={"Authorization": f"Bearer {os.environ[\'PALISERVE_KEY\']}"},'] : []),
    "    timeout=60,",
    ")",
    "print(response.raise_for_status().json())",
  ].join("\n");
}

/**
 * @param {Question} question
 * @param {Picture} picture
 * @param {Place} place
 */
function grpcurl({ task, fields }, picture, { url, grpcPort, keyed }) {
  const { protocol, hostname } = new URL(url);
  const message = JSON.stringify(protoFields(fields), null, 1).replaceAll(/[\\`$]/g, "\\$&").slice(1).trimStart();
  const parts = ["grpcurl"];
  if (protocol === "http:") parts.push("-plaintext");
  if (keyed) parts.push(`-H "authorization: Bearer ${KEY}"`);
  parts.push(`-d @ ${hostname}:${grpcPort} paligemma.v1.PaliGemmaService/${TASKS[task].call} <<EOF`);
  const image = `{"image": "$(base64 < ${quoted(nameOf(picture))} | tr -d '\\n')"`;
  return [...fetched(picture), parts.join(" "), message === "}" ? `${image}}` : `${image},\n ${message}`, "EOF"].join("\n");
}

/**
 * Fields as protobuf's JSON has them: enumerations by the names of their values.
 * @param {Record<string, unknown>} fields
 * @returns {Record<string, unknown>}
 */
function protoFields(fields) {
  const told = { ...fields };
  if (told.resolution) told.resolution = `RESOLUTION_${String(told.resolution).toUpperCase()}`;
  if (told.style) told.style = `CAPTION_STYLE_${String(told.style).toUpperCase()}`;
  return told;
}
