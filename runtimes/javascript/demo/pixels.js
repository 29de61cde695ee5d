// Pixels of given pictures: cut to the shape of the drawing and resized as the package does, so that the worker has nothing left to resize.

import { resize } from "./package/resize.js";

/** @typedef {{data: Uint8Array, width: number, height: number}} Pixels RGB */

/** A canvas of this size, filled with one colour.
 * @returns {{canvas: HTMLCanvasElement, context: CanvasRenderingContext2D}}
 */
export function makeCanvas(width, height, colour) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, width, height);
  return { canvas, context };
}

/** The middle of a canvas, as large as fits in the shape of the drawing: [left, top, width, height]. */
export function findMiddle(canvas, width, height) {
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const wide = Math.min(Math.max(Math.round(width * scale), 1), canvas.width);
  const high = Math.min(Math.max(Math.round(height * scale), 1), canvas.height);
  return [Math.floor((canvas.width - wide) / 2), Math.floor((canvas.height - high) / 2), wide, high];
}

/** The middle of a canvas in so many pixels.
 * @returns {Pixels}
 */
export function cutPixels(canvas, width, height) {
  const [left, top, wide, high] = findMiddle(canvas, width, height);
  const { data } = canvas.getContext("2d").getImageData(left, top, wide, high);
  return { data: resize(dropAlpha(data), [high, wide], [height, width]), width, height };
}

/** RGB of RGBA. */
export function dropAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    [rgb[to], rgb[to + 1], rgb[to + 2]] = [rgba[from], rgba[from + 1], rgba[from + 2]];
  }
  return rgb;
}

/** A canvas of pixels. */
export function paintPixels({ data, width, height }) {
  const { canvas, context } = makeCanvas(width, height, "black");
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    image.data.set([data[from], data[from + 1], data[from + 2], 255], to);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A PNG of pixels, to keep.
 * @returns {Promise<Blob>}
 */
export function packPixels(pixels) {
  return new Promise((resolve, reject) => {
    paintPixels(pixels).toBlob((png) => (png ? resolve(png) : reject(new Error("the browser made no PNG of the given picture"))), "image/png");
  });
}

/** The canvas of a PNG that was kept. */
export async function unpackPixels(png) {
  const image = await createImageBitmap(png);
  const { canvas, context } = makeCanvas(image.width, image.height, "black");
  context.drawImage(image, 0, 0);
  image.close();
  return canvas;
}

/** A number of pixels' content, to tell pictures apart: two sums of FNV's kind (isthe.com/chongo/tech/comp/fnv), 52 bits in all. */
export function digestPixels({ data, width, height }) {
  let [one, other] = [0x811c9dc5 ^ width, 0x9747b28c ^ height];
  for (const value of data) {
    one = Math.imul(one ^ value, 0x01000193);
    other = Math.imul(other ^ value, 0x5bd1e995) ^ (other >>> 15);
  }
  return `${(one >>> 0).toString(16)}${(other >>> 12).toString(16)}`;
}
