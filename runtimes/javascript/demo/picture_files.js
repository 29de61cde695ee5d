// Picture files that somebody chooses, drops or pastes, as canvases. They are read here and go nowhere.

import { makeCanvas } from "./pixels.js";
import { megabytes } from "./text.js";

const MOST_BYTES = 64e6;
const MOST_PIXELS = 64e6; // decoded they take four bytes each
const LONGEST_SIDE = 2048; // pixels of what is kept of one: more than any drawing has

/** The canvas of a picture file, at most LONGEST_SIDE pixels high and wide.
 * @param {Blob & {name?: string}} file
 * @param {string} paper the colour behind what is see-through
 * @returns {Promise<HTMLCanvasElement>}
 * @throws {Error} it is too large, or no picture; the text is for whoever gave it
 */
export async function readPictureFile(file, paper) {
  const name = file.name || "The picture";
  if (file.size > MOST_BYTES) {
    throw new Error(`${name} has ${megabytes(file.size)} MB: at most ${megabytes(MOST_BYTES)} MB are read. Make it smaller first.`);
  }
  const refuse = () => {
    throw new Error(`${name} is no picture that this browser can read, or it is damaged. Choose a PNG, JPEG or WebP file.`);
  };
  const [width, height] = await measure(file).catch(refuse);
  if (width * height > MOST_PIXELS) {
    const found = `${width.toLocaleString("en")} \u00d7 ${height.toLocaleString("en")} pixels`;
    throw new Error(`${name} has ${found}: at most ${MOST_PIXELS / 1e6} million are read. Make it smaller first.`);
  }
  const image = await createImageBitmap(file).catch(refuse); // unlike an <img>, none of a file that is cut off
  try {
    return paintImage(image, paper);
  } finally {
    image.close();
  }
}

/** Width and height of a picture file, of whose pixels none is made for it. */
async function measure(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return [image.naturalWidth, image.naturalHeight];
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

function paintImage(image, paper) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  const { canvas, context } = makeCanvas(width, height, paper);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}

/** The first file of a drop or a paste that says it is a picture, else the first file; undefined where there is none. */
export function findFile(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find(({ type }) => type.startsWith("image/")) ?? files[0];
}
