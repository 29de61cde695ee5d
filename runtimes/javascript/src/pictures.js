// Pictures that a caller gives, as networks read them: RGB, resized to the picture that is drawn, 2 (v / 255) - 1 in float32.

import { SprintExportError, describe } from "./errors.js";
import { resize } from "./resize.js";

const round = Math.fround;
const MOST_PIXELS = 2 ** 27;
const MOST_FILE_BYTES = 2 ** 28;

/** @typedef {{data: ArrayLike<number>, width: number, height: number}} Pixels RGB or RGBA, as ImageData has them */

/** A given picture for a network.
 * @param {string} name what errors call it
 * @param {any} given pixels, or a picture file's bytes (Blob, Uint8Array, ArrayBuffer) where this place decodes them
 * @param {[number, number]} size [height, width]
 * @param {Function} [decodePicture] file bytes -> pixels
 * @returns {Promise<Float32Array>} [3, height, width] in [-1, 1]
 * @throws {SprintExportError} it is no picture
 */
export async function readPicture(name, given, size, decodePicture) {
  const pixels = isFile(given) ? await decode(name, given, decodePicture) : given;
  const rgb = takeRgb(name, pixels);
  return normalize(resize(rgb, [pixels.height, pixels.width], size));
}

const isFile = (given) => given instanceof Uint8Array || given instanceof ArrayBuffer || (typeof Blob !== "undefined" && given instanceof Blob);

async function decode(name, file, decodePicture) {
  if (!decodePicture) {
    throw new SprintExportError("input", `${name}: picture files are not decoded here; give { data, width, height }`);
  }
  const bytes = file instanceof Blob ? new Uint8Array(await file.arrayBuffer()) : new Uint8Array(file);
  if (bytes.length > MOST_FILE_BYTES) {
    throw new SprintExportError("input", `${name}: a file of ${bytes.length} bytes, expected at most ${MOST_FILE_BYTES}`);
  }
  try {
    return await decodePicture(bytes);
  } catch (error) {
    throw new SprintExportError("input", `${name}: ${describe(error)}; expected a picture that can be read here, e.g. a PNG`, { cause: error });
  }
}

/** RGB of pixels; what is see-through is taken as it is stored. */
function takeRgb(name, { data, width, height } = /** @type {any} */ ({})) {
  const count = width * height;
  const isSize = Number.isSafeInteger(width) && Number.isSafeInteger(height) && width > 0 && height > 0 && count <= MOST_PIXELS;
  const channels = isSize ? (data?.length ?? 0) / count : 0;
  if (channels !== 3 && channels !== 4) {
    const found = `width=${width}, height=${height} and ${data?.length} values`;
    throw new SprintExportError("input", `${name}: found ${found}; expected { data, width, height } with RGB or RGBA of each of at most ${MOST_PIXELS} pixels`);
  }
  const rgb = new Uint8Array(3 * count);
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    [rgb[to], rgb[to + 1], rgb[to + 2]] = [data[from], data[from + 1], data[from + 2]];
  }
  return rgb;
}

function normalize(rgb) {
  const count = rgb.length / 3;
  const values = new Float32Array(rgb.length);
  for (let i = 0; i < count; i++) {
    for (let channel = 0; channel < 3; channel++) {
      values[channel * count + i] = round(2 * round(rgb[3 * i + channel] / 255)) - 1;
    }
  }
  return values;
}
