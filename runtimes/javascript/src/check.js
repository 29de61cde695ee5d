// Draw a bundle's reference again, here, and say how far the pictures are apart.

import { SprintExportError, describe } from "./errors.js";
import { hash } from "./files.js";

const MOST_JSON_BYTES = 4 << 20;
const MOST_PICTURE_BYTES = 64 << 20;

/** Compare with the drawings of reference.json.
 * @param {import("./pipeline.js").Pipeline} pipeline
 * @param {number} [most] how many of them; default: all
 * @returns {Promise<{drawings: import("../index.d.ts").Comparison[]}>} of each: prompt, seed, steps, same (to the bit), largest (difference of two pixels' values,
 *   of 255; null where pictures cannot be decoded here), sameIds (ids and mask)
 * @throws {SprintExportError} the bundle has no reference
 */
export async function checkReference(pipeline, most = Infinity) {
  const { app, files } = pipeline;
  if (!app.reference) {
    throw new SprintExportError("reference", "this bundle has no reference pictures; export it again");
  }
  const known = readJson(await files.readOther(app.reference, MOST_JSON_BYTES), app.reference);
  /** @type {import("../index.d.ts").Comparison[]} */
  const drawings = [];
  for (const drawing of known.drawings.slice(0, most)) {
    drawings.push(await compare(pipeline, drawing));
  }
  return { drawings };
}

function readJson(bytes, path) {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (Array.isArray(value?.drawings)) {
      return value;
    }
  } catch (error) {
    throw new SprintExportError("reference", `${path} is no JSON (${describe(error)}); download the bundle again`, { cause: error });
  }
  throw new SprintExportError("reference", `${path} lists no drawings; download the bundle again`);
}

async function compare(pipeline, { prompt, seed, steps, ids, mask, picture }) {
  const encoded = pipeline.encodePrompt(prompt);
  const sameIds = isEqual(encoded.ids, ids) && isEqual(encoded.mask, mask);
  const drawn = await pipeline.draw(prompt, { seed, steps });
  const same = (await hash(dropAlpha(drawn.data))) === picture.sha256;
  const largest = same ? 0 : await findLargest(pipeline, drawn, picture);
  return { prompt, seed, steps, same, largest, sameIds };
}

const isEqual = (found, known) => found.length === known.length && known.every((value, place) => BigInt(value) === found[place]);

async function findLargest({ files, decodePicture }, drawn, { file }) {
  if (!decodePicture) {
    return null;
  }
  const known = await decodePicture(await files.readOther(file, MOST_PICTURE_BYTES));
  if (known.width !== drawn.width || known.height !== drawn.height) {
    throw new SprintExportError("reference", `${file} is ${known.width} x ${known.height}, drawn here ${drawn.width} x ${drawn.height}`);
  }
  return drawn.data.reduce((most, value, place) => Math.max(most, Math.abs(value - known.data[place])), 0);
}

/** RGBA to RGB. */
function dropAlpha(data) {
  const found = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    found[j++] = data[i];
    found[j++] = data[i + 1];
    found[j++] = data[i + 2];
  }
  return found;
}
