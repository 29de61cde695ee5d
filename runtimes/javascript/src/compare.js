// One drawing of a bundle's reference beside the same one made here: how far the pictures are apart, and where that begins.

import { SprintExportError, describe } from "./errors.js";
import { hash } from "./files.js";
import { parseJson } from "./json.js";
import { makeNoise } from "./noise.js";
import { toFloats } from "./tensors.js";

const MOST_JSON_BYTES = 4 << 20;
const MOST_PICTURE_BYTES = 64 << 20;
const MOST_DRAWINGS = 4;
const MOST_FURTHER = 8;
const MOST_DB = 100; // of equal pictures, where there is no noise to divide by
const INPUTS = ["ids", "mask", "noise"]; // the same to the bit everywhere
const TOLERANCE = 2; // of 255: what other kernels for the same integers may leave

/** @typedef {{network: string, step: number | null, is_same: boolean, error: number}} StageCheck outputs equal to the bit; the largest
 *   difference of their first values, in standard deviations */
/** @typedef {{prompt: string, seed: number, steps: number, largest: number | null, mean: number | null, psnr_db: number | null,
 *   stages: StageCheck[], begins: string, before: string, now: string, passed: boolean}} Check as Python's runtimes/checking.py has it;
 *   null where pictures are not decoded here */

/** The drawings of reference.json: those of one prompt at each step count, and those of further prompts.
 * @param {any} pipeline
 * @param {AbortSignal} [signal]
 * @returns {Promise<{drawings: any[], further: any[]}>}
 * @throws {SprintExportError} the bundle has none, or they are damaged
 */
export async function readReference({ app, files }, signal) {
  if (!app.reference) {
    throw new SprintExportError("reference", "this bundle has no reference pictures; export it again");
  }
  const bytes = await files.readOther(app.reference, MOST_JSON_BYTES, signal);
  try {
    const { drawings, further = [] } = parseJson(bytes);
    expect(drawings.length >= 1 && drawings.length <= MOST_DRAWINGS && further.length <= MOST_FURTHER, "its number of drawings");
    [...drawings, ...further].forEach(checkDrawing);
    return { drawings, further };
  } catch (error) {
    throw new SprintExportError("reference", `${app.reference} is damaged (${describe(error)}); download the bundle again`, { cause: error });
  }
}

function expect(holds, what) {
  if (!holds) {
    throw new Error(`${what} is not as expected`);
  }
}

function checkDrawing({ prompt, seed, steps, ids, mask, noise, stages, picture, runtime }) {
  const texts = [prompt, runtime, noise.sha256, picture.file, picture.sha256];
  expect(texts.every((text) => typeof text === "string"), "a drawing");
  expect(Number.isSafeInteger(seed) && seed >= 0 && Number.isSafeInteger(steps), "a seed");
  expect([...ids, ...mask].every(Number.isSafeInteger), "a list of ids");
  for (const { network, outputs } of stages) {
    const isGood = ({ sha256, std, first }) => typeof sha256 === "string" && [std, ...first].every(Number.isFinite);
    expect(typeof network === "string" && Object.values(outputs).every(isGood), "an output");
  }
}

/** Draw it again and compare.
 * @param {any} pipeline
 * @param {any} before the drawing as the reference has it
 * @param {AbortSignal} [signal]
 * @returns {Promise<Check>}
 * @throws {SprintExportError} the reference's picture is damaged or of another size
 */
export async function compareDrawing(pipeline, before, signal) {
  const { prompt, seed, steps, runtime } = before;
  const { ids, mask } = pipeline.encodePrompt(prompt);
  const calls = [];
  const drawn = await pipeline.draw(prompt, { seed, steps, signal, onStage: (call) => calls.push(call) });
  const noise = makeNoise(seed, pipeline.app.noise.shape.reduce((product, axis) => product * axis, steps));
  const inputs = { ids: isEqual(ids, before.ids), mask: isEqual(mask, before.mask), noise: (await hash(toBytes(noise))) === before.noise.sha256 };
  const stages = await compareStages(before.stages, calls);
  const rgb = dropAlpha(drawn.data);
  const isSame = (await hash(rgb)) === before.picture.sha256;
  const apart = isSame ? { largest: 0, mean: 0, psnr_db: MOST_DB } : await measure(pipeline, rgb, drawn, before.picture, signal);
  const begins = findFirst(inputs, stages, isSame);
  const passed = apart.largest !== null && apart.largest <= TOLERANCE && !INPUTS.includes(begins);
  return { prompt, seed, steps, ...apart, stages: stages ?? [], begins, before: runtime, now: pipeline.description, passed };
}

const isEqual = (found, known) => found.length === known.length && known.every((value, place) => BigInt(value) === found[place]);

const toBytes = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);

/** Each call of a network; null where other networks ran, or gave other outputs.
 * @returns {Promise<StageCheck[] | null>}
 */
async function compareStages(before, calls) {
  const name = (network, outputs) => [network, ...Object.keys(outputs).sort()].join("\n");
  const isAlike = before.length === calls.length && before.every(({ network, outputs }, i) => name(network, outputs) === name(calls[i].network, calls[i].written));
  return isAlike ? Promise.all(before.map(({ outputs }, i) => compareStage(outputs, calls[i]))) : null;
}

async function compareStage(outputs, { network, step, written }) {
  const pairs = Object.entries(outputs).map(([name, known]) => ({ known, tensor: written[name] }));
  const digests = await Promise.all(pairs.map(async ({ known, tensor }) => (await hash(toBytes(tensor.data))) === known.sha256));
  const errors = pairs.map(({ known: { first, std }, tensor }) => {
    const values = toFloats(tensor);
    return Math.max(0, ...first.slice(0, values.length).map((value, i) => Math.abs(value - Number(values[i])))) / (std || 1);
  });
  return { network, step: step ?? null, is_same: digests.every(Boolean), error: Math.max(0, ...errors) };
}

/** What differs first, on the way from the prompt to the picture; "" where nothing does. */
function findFirst(inputs, stages, isSame) {
  const input = INPUTS.find((name) => !inputs[name]);
  if (input || !stages) {
    return input ?? "the networks that ran";
  }
  const stage = stages.find(({ is_same: isSameStage }) => !isSameStage);
  return stage ? `${stage.network}${stage.step === null ? "" : ` in step ${stage.step + 1}`}` : isSame ? "" : "picture";
}

/** How far the picture is from the reference's. */
async function measure({ files, decodePicture }, rgb, { width, height }, { file, sha256 }, signal) {
  if (!decodePicture) {
    return { largest: null, mean: null, psnr_db: null };
  }
  const known = await decodePicture(await files.readOther(file, MOST_PICTURE_BYTES, signal));
  if (known.width !== width || known.height !== height) {
    throw new SprintExportError("reference", `${file} is ${known.width} x ${known.height}, drawn here ${width} x ${height}`);
  }
  const wanted = known.data.length === rgb.length ? Uint8Array.from(known.data) : dropAlpha(known.data);
  if ((await hash(wanted)) !== sha256) {
    throw new SprintExportError("reference", `${file} is not the picture that reference.json says; download the bundle again`);
  }
  const { most, sum, squares } = compareValues(rgb, wanted);
  const power = Math.max(squares / rgb.length, 1e-12);
  return { largest: most, mean: sum / rgb.length, psnr_db: Math.min(MOST_DB, 10 * Math.log10(255 ** 2 / power)) };
}

function compareValues(found, wanted) {
  let [most, sum, squares] = [0, 0, 0];
  for (let i = 0; i < found.length; i++) {
    const apart = Math.abs(found[i] - wanted[i]);
    [most, sum, squares] = [Math.max(most, apart), sum + apart, squares + apart * apart];
  }
  return { most, sum, squares };
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
