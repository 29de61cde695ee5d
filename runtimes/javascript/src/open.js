// Open a bundle and draw. Runtime and tokenizer are handed in, so that this module is the same in Node, a page and a worker.

import { checkReference } from "./check.js";
import { Files } from "./files.js";
import { Networks } from "./networks.js";
import { makeNoise } from "./noise.js";
import { encodePrompt } from "./prompt.js";
import { mix, start, toFloats, toPixels } from "./sampler.js";

const EACH_STEP = "each step";

/** Make `openBundle` of a runtime and a tokenizer.
 * @param {{ort: object, Tokenizer: Function, readFile?: Function, decodePicture?: Function}} parts
 */
export function makeOpener({ ort, Tokenizer, readFile, decodePicture }) {
  /** Open a bundle.
   * @param {string} folder its URL
   * @param {{provider?: string, oneAtATime?: boolean, verify?: boolean, onProgress?: Function, signal?: AbortSignal}} options
   * @returns {Promise<Pipeline>}
   * @throws {Error} a file is missing, damaged, or the runtime cannot open it
   */
  return async function openBundle(folder, options = {}) {
    const { provider = "wasm", oneAtATime = false, verify = true, onProgress = () => {}, signal } = options;
    const files = new Files(folder.endsWith("/") ? folder : `${folder}/`, { verify, signal, readFile });
    const app = await files.readApp();
    const tokenizers = await openTokenizers(Tokenizer, app, files, onProgress);
    const networks = new Networks(ort, app, files, { provider, oneAtATime, onProgress });
    await networks.openAll();
    return new Pipeline({ ort, app, files, tokenizers, networks, decodePicture });
  };
}

async function openTokenizers(Tokenizer, app, files, onProgress) {
  const found = {};
  for (const { file } of app.prompt.steps.filter((step) => step.do === "tokenize")) {
    const total = files.known.get(file)?.bytes ?? 0;
    const bytes = await files.read(file, (done) => onProgress({ stage: "tokenizer", done, total }));
    found[file] = new Tokenizer(JSON.parse(new TextDecoder().decode(bytes)), {});
  }
  return found;
}

/** An open bundle: prompts to pictures. */
export class Pipeline {
  constructor(parts) {
    Object.assign(this, parts);
  }

  /** Ids and mask of a prompt. */
  encodePrompt(prompt) {
    return encodePrompt(this.app.prompt, this.tokenizers, prompt);
  }

  /** Draw a picture.
   * @param {string} prompt
   * @param {{seed?: number | bigint, steps?: number, signal?: AbortSignal, onProgress?: Function, onStage?: Function}} options
   * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number, seed: number | bigint, milliseconds: object}>} RGBA
   * @throws {DOMException} AbortError, between two networks
   */
  async draw(prompt, { seed = 0, steps = this.app.sampler.default_steps, signal, onProgress = () => {}, onStage = () => {} } = {}) {
    const began = performance.now();
    const run = { milliseconds: {}, signal, onProgress, onStage };
    const schedule = this.#findSchedule(steps);
    const shape = [1, ...this.app.noise.shape];
    const size = shape.reduce((product, axis) => product * axis, 1);
    const noise = makeNoise(seed, size * steps);
    const noiseOf = (step) => noise.subarray(step * size, (step + 1) * size);
    const picture = await this.#runStages(prompt, { ...run, schedule, shape, noiseOf });
    const [height, width] = picture.dims.slice(-2);
    const data = toPixels(toFloats(picture), [height, width]);
    return { data, width, height, seed, milliseconds: { total: performance.now() - began, ...run.milliseconds } };
  }

  /** Draw the reference again and compare; see check.js. */
  check() {
    return checkReference(this);
  }

  close() {
    return this.networks.close();
  }

  #findSchedule(steps) {
    const { schedules } = this.app.sampler;
    if (!Object.hasOwn(schedules, steps)) {
      throw new RangeError(`steps=${steps}: this bundle draws in ${Object.keys(schedules).join(", ")}`);
    }
    return schedules[steps];
  }

  /** The picture's tensor [1, 3, H, W]. */
  async #runStages(prompt, run) {
    const { values, stages } = this.app;
    const { ids, mask } = this.encodePrompt(prompt);
    const table = { [values.ids]: this.#tensor(ids, [1, ids.length]), [values.mask]: this.#tensor(mask, [1, mask.length]) };
    const loop = stages.filter((stage) => stage.when === EACH_STEP);
    const first = loop.length ? stages.indexOf(loop[0]) : 0;
    let x = start(this.app.sampler, run.noiseOf(0), run.schedule.times[0]);
    for (const stage of stages.slice(0, first)) {
      await this.#runStage(stage, table, run);
    }
    for (const [step, row] of run.schedule.rows.entries()) {
      const inside = { ...table, [values.state]: this.#tensor(x, run.shape) };
      if (values.step) {
        inside[values.step] = this.#tensor(BigInt64Array.of(BigInt(row)), [1]);
      }
      for (const stage of loop) {
        await this.#runStage(stage, inside, { ...run, step });
      }
      x = loop.length ? toFloats(inside[values.denoised]) : x;
      if (step + 1 < run.schedule.rows.length) {
        x = mix(x, run.noiseOf(step + 1), run.schedule.times[step + 1]);
      }
    }
    table[values.state] = this.#tensor(Float32Array.from(x), run.shape);
    for (const stage of stages.slice(first + loop.length)) {
      await this.#runStage(stage, table, run);
    }
    return table[values.picture];
  }

  /** Run one network, add what it writes to the table and its time to the others. */
  async #runStage({ network, optional }, table, { milliseconds, signal, onProgress, onStage, step }) {
    await yieldToMessages();
    signal?.throwIfAborted();
    const { inputs } = this.app.networks[network].graphs[0];
    if (optional && inputs.some(({ name }) => !(name in table))) {
      return;
    }
    onProgress({ stage: network, step });
    const began = performance.now();
    const written = await this.networks.run(network, table);
    milliseconds[network] = (milliseconds[network] ?? 0) + performance.now() - began;
    onStage({ network, step, written });
    Object.assign(table, written);
  }

  #tensor(data, dims) {
    return new this.ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, dims);
  }
}

/** Let messages in, an abort among them: a network that runs in WebAssembly holds the thread. */
function yieldToMessages() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}
