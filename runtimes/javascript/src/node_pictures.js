// PNG files to pixels, for Node: browsers decode by themselves.

import { PNG } from "pngjs";

const MOST_PIXELS = 2 ** 27;
const SIZE_AT = 16; // of width and height in a PNG file, four bytes each

/** RGBA of a PNG file, as it is stored.
 * @param {Uint8Array} bytes
 * @returns {Promise<{data: Uint8Array, width: number, height: number}>}
 * @throws {Error} it is none, damaged, or of more than MOST_PIXELS
 */
export async function decodePicture(bytes) {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length >= SIZE_AT + 8 && file.readUInt32BE(SIZE_AT) * file.readUInt32BE(SIZE_AT + 4) > MOST_PIXELS) {
    throw new Error(`a PNG of more than ${MOST_PIXELS} pixels`);
  }
  const { data, width, height } = PNG.sync.read(file);
  return { data, width, height };
}
