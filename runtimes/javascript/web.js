// The package in browsers: onnxruntime-web, bundles from URLs.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web";

import { describeBrowser } from "./src/machine.js";
import { makePlanner } from "./src/memory.js";
import { makeOpener } from "./src/open.js";

export { SprintExportError } from "./src/errors.js";
export { makeNoise } from "./src/noise.js";
export { makeOpener };

/** The pixels of a PNG as they are stored.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
async function decodePicture(bytes) {
  const image = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(image.width, image.height).getContext("2d"));
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

export const openBundle = makeOpener({ ort, Tokenizer, decodePicture });
export const planMemory = makePlanner({ defaultProvider: "wasm", describeMachine: describeBrowser });
