// What one picture is asked for: options of `draw` that fit together and that this bundle can draw, before a network runs.

import { SprintExportError } from "./errors.js";
import { listInputs } from "./networks.js";
import { choosePicture, fillAxes } from "./sizes.js";

const OPTIONS = ["seed", "steps", "height", "width", "image", "strength", "control", "controlScale", "inputs", "signal", "onProgress", "onStage"];
const NEEDS = { strength: "image", controlScale: "control" }; // an option that says how another is used
const USUAL_STRENGTH = 0.6; // of diffusers' SANA-Sprint, as in Python
const MOST_VALUES = 2 ** 28;

/** @typedef {{shape: number[], size: [number, number], units: Record<string, number>, rows: number[], times: number[], steps: number,
 *   seed: number | bigint, image: any, control: any, controlScale: number, inputs: Record<string, ArrayLike<number>>,
 *   signal?: AbortSignal, onProgress: Function, onStage: Function}} Request */

/** Refuse options that there are not.
 * @param {string} what they are options of
 * @param {object} options
 * @param {readonly string[]} known
 * @throws {SprintExportError} one is none of them
 */
export function refuseUnknown(what, options, known) {
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length) {
    throw new SprintExportError("input", `${what}: there is no option ${unknown.join(", ")}; choose from: ${known.join(", ")}`);
  }
}

/** Read the options of a draw.
 * @param {any} app
 * @param {import("../index.d.ts").DrawOptions} options
 * @returns {Request} `shape` of one step's noise with a batch of 1, `size` [height, width]; rows and times of the steps that are run
 * @throws {SprintExportError} one is unknown, makes no sense, or this bundle cannot draw it
 */
export function readRequest(app, options) {
  refuseUnknown("draw", options, OPTIONS);
  for (const [name, needed] of Object.entries(NEEDS)) {
    if (options[name] !== undefined && options[needed] === undefined) {
      throw new SprintExportError("input", `${name}=${options[name]}: says how a picture is used; give ${needed} too`);
    }
  }
  const { seed = 0, steps = app.sampler.default_steps, image, control, controlScale = 1, inputs = {}, signal } = options;
  const { onProgress = () => {}, onStage = () => {} } = options;
  const { shape, size, units } = choosePicture(app, options.height, options.width);
  const run = chooseSteps(app.sampler, steps, image === undefined ? 1 : (options.strength ?? USUAL_STRENGTH));
  if (multiply(shape) * run.rows.length > MOST_VALUES || multiply(size) * 3 > MOST_VALUES) {
    throw new SprintExportError("input", `height=${size[0]}, width=${size[1]}: more than ${MOST_VALUES} values of noise or picture`);
  }
  if (!Number.isFinite(controlScale)) {
    throw new SprintExportError("input", `controlScale=${controlScale}: expected a number, 1 as trained`);
  }
  if (image !== undefined && !findEncoder(app)) {
    throw new SprintExportError("input", "image: no network here encodes pictures; export the student with --image-to-image");
  }
  if (control !== undefined && !listGiven(app).some(({ name }) => name === app.values.scale)) {
    throw new SprintExportError("input", "control: no network here takes a control picture; export a student with a ControlNet (--controlnet)");
  }
  return { shape: [1, ...shape], size, units, ...run, steps, seed, image, control, controlScale, inputs, signal, onProgress, onStage };
}

const multiply = (shape) => shape.reduce((product, axis) => product * axis, 1);

/** The last steps of a schedule: of a strength below 1 as many as diffusers runs, steps x strength rounded up.
 * @returns {{rows: number[], times: number[]}}
 */
function chooseSteps({ schedules }, steps, strength) {
  if (!Object.hasOwn(schedules, steps)) {
    throw new SprintExportError("input", `steps=${steps}: this bundle draws in ${Object.keys(schedules).join(", ")}`);
  }
  if (!(strength > 0 && strength <= 1)) {
    throw new SprintExportError("input", `strength=${strength}: expected more than 0, the picture itself, and at most 1, noise alone`);
  }
  const { rows, times } = schedules[steps];
  const leftOut = Math.min(Math.trunc(rows.length - rows.length * strength), rows.length - 1);
  return { rows: rows.slice(leftOut), times: times.slice(leftOut) };
}

/** The network that makes a state without noise of a picture, or undefined. */
export function findEncoder({ networks, stages, values }) {
  const writes = ({ network }) => networks[network].graphs.at(-1).outputs.some(({ name }) => name === values.encoded);
  return values.encoded && values.source ? stages.findLast(writes)?.network : undefined;
}

/** Values that only the caller can give: what optional networks read and none writes.
 * @returns {import("./networks.js").Spec[]}
 */
export function listGiven({ networks, stages, values }) {
  const written = Object.values(networks).flatMap(({ graphs }) => graphs.flatMap(({ outputs }) => outputs.map(({ name }) => name)));
  const made = new Set([...written, values.ids, values.mask, values.state, values.step]);
  const read = stages.filter((stage) => stage.optional).flatMap(({ network }) => listInputs(networks[network]));
  return [...new Map(read.filter(({ name }) => !made.has(name)).map((spec) => [spec.name, spec])).values()];
}

/** Height and width of the picture that a network reads.
 * @returns {[number, number]}
 */
export function findSourceSize({ networks, values }, units) {
  const shape = Object.values(networks).flatMap(listInputs).find(({ name }) => name === values.source)?.shape ?? [];
  const [batch, channels, height, width] = fillAxes(shape, units);
  if (shape.length !== 4 || batch !== 1 || channels !== 3) {
    throw new SprintExportError("app", `${values.source} has the shape [${shape}], expected [1, 3, height, width]; export the bundle again`);
  }
  return [height, width];
}

/** What optional networks are given, as [dims, values] by name; the scale is 1 where something is given and it is not.
 * @param {any} app
 * @param {Request} request
 * @param {Float32Array | null} control [3, height, width]
 * @returns {Record<string, [number[], Float32Array]>}
 * @throws {SprintExportError} `inputs` names a value that no optional network takes, or has another number of values
 */
export function arrangeInputs(app, { inputs, units, controlScale }, control) {
  const { source, scale } = app.values;
  const given = listGiven(app);
  const shapes = new Map(given.map(({ name, shape }) => [name, fillAxes(shape, units)]));
  const asked = control ? { [source]: control, [scale]: [controlScale], ...inputs } : inputs;
  const whole = Object.keys(asked).length && shapes.has(scale) ? { [scale]: [1], ...asked } : asked;
  return Object.fromEntries(
    Object.entries(whole).map(([name, values]) => {
      const dims = shapes.get(name);
      if (!dims || values?.length !== multiply(dims)) {
        const known = [...shapes].map(([own, shape]) => `${own} [${shape}]`).join(", ") || "none";
        throw new SprintExportError("input", `inputs: ${name} has ${values?.length} values; those that can be given: ${known}`);
      }
      return [name, [dims, Float32Array.from(values)]];
    }),
  );
}
