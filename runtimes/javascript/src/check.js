// Draw a bundle's reference again, here, and say how far the pictures are apart.

import { compareDrawing, readReference } from "./compare.js";

/** Compare with the drawings of reference.json, one prompt at each step count.
 * @param {import("./pipeline.js").Pipeline} pipeline
 * @param {{most?: number, signal?: AbortSignal}} [options] how many of them; default: all
 * @returns {Promise<{drawings: import("../index.d.ts").Comparison[]}>} of each: prompt, seed, steps, same (to the bit), largest (difference of two pixels' values,
 *   of 255; null where pictures cannot be decoded here), begins (what differs first), sameIds (ids and mask)
 * @throws {import("./errors.js").SprintExportError} the bundle has no reference
 */
export async function checkReference(pipeline, { most = Infinity, signal } = {}) {
  const known = await readReference(pipeline, signal);
  /** @type {import("../index.d.ts").Comparison[]} */
  const drawings = [];
  for (const drawing of known.drawings.slice(0, most)) {
    const { prompt, seed, steps, largest, begins } = await compareDrawing(pipeline, drawing, signal);
    drawings.push({ prompt, seed, steps, same: largest === 0, largest, begins, sameIds: !["ids", "mask"].includes(begins) });
  }
  return { drawings };
}
