// An open bundle: prompts to pictures, by the stages of app.json.

import { checkReference } from "./check.js";
import { SprintExportError } from "./errors.js";
import { listInputs } from "./networks.js";
import { makeNoise } from "./noise.js";
import { encodePrompt } from "./prompt.js";
import { mix, start, toPixels } from "./sampler.js";
import { toFloats } from "./tensors.js";

const EACH_STEP = "each step";

export class Pipeline {
  #last = Promise.resolve(); // a session runs one call at a time
  #isClosed = false;

  /** @param {{ort: any, app: any, files: any, tokenizers: any, networks: any, decodePicture?: Function}} parts */
  constructor(parts) {
    this.ort = parts.ort;
    this.app = parts.app;
    this.files = parts.files;
    this.tokenizers = parts.tokenizers;
    this.networks = parts.networks;
    this.decodePicture = parts.decodePicture;
  }

  /** Files that the browser had no room to keep: they will be fetched again. */
  get notKept() {
    return [...this.files.notKept];
  }

  /** Ids int64 [tokens] and mask int64 [kept positions] of a prompt. */
  encodePrompt(prompt) {
    return encodePrompt(this.app.prompt, this.tokenizers, prompt);
  }

  /** Draw a picture; calls wait for each other. See index.d.ts.
   * @param {string} prompt
   * @param {import("../index.d.ts").DrawOptions} [options]
   */
  draw(prompt, options = {}) {
    const drawn = this.#last.then(() => this.#draw(prompt, options));
    this.#last = drawn.then(() => {}, () => {});
    return drawn;
  }

  /** Draw the reference again and compare; see check.js. */
  check() {
    return checkReference(this);
  }

  /** Free the networks, when what is being drawn is done. */
  async close() {
    this.#isClosed = true;
    await this.#last;
    await this.networks.close();
  }

  /** @param {string} prompt
   * @param {import("../index.d.ts").DrawOptions} options
   */
  async #draw(prompt, { seed = 0, steps = this.app.sampler.default_steps, inputs = {}, signal, onProgress = () => {}, onStage = () => {} }) {
    if (this.#isClosed) {
      throw new SprintExportError("input", "the pipeline is closed; open the bundle again");
    }
    const began = performance.now();
    const run = { milliseconds: {}, signal, onProgress, onStage, schedule: this.#findSchedule(steps) };
    const shape = [1, ...this.app.noise.shape];
    const size = shape.reduce((product, axis) => product * axis, 1);
    const noise = makeNoise(seed, size * steps);
    const noiseOf = (step) => noise.subarray(step * size, (step + 1) * size);
    const table = this.#startTable(prompt, inputs);
    const picture = await this.#runStages(table, { ...run, shape, noiseOf });
    const [height, width] = this.#checkPicture(picture);
    const data = toPixels(toFloats(picture), [height, width]);
    return { data, width, height, seed, steps, milliseconds: { total: performance.now() - began, ...run.milliseconds } };
  }

  #findSchedule(steps) {
    const { schedules } = this.app.sampler;
    if (!Object.hasOwn(schedules, steps)) {
      throw new SprintExportError("input", `steps=${steps}: this bundle draws in ${Object.keys(schedules).join(", ")}`);
    }
    return schedules[steps];
  }

  /** The values before the first stage: ids, mask, and what the caller gives to optional networks. */
  #startTable(prompt, inputs) {
    const { values, networks, stages } = this.app;
    const { ids, mask } = this.encodePrompt(prompt);
    const table = { [values.ids]: this.#tensor(ids, [1, ids.length]), [values.mask]: this.#tensor(mask, [1, mask.length]) };
    const optional = stages.filter((stage) => stage.optional).flatMap(({ network }) => listInputs(networks[network]));
    const written = new Set(Object.values(networks).flatMap(({ graphs }) => graphs.flatMap(({ outputs }) => outputs.map(({ name }) => name))));
    const makers = new Set([values.state, values.step, values.ids, values.mask]);
    const given = optional.filter(({ name }) => !written.has(name) && !makers.has(name));
    const names = Object.keys(inputs);
    if (names.length && values.scale && !names.includes(values.scale) && given.some(({ name }) => name === values.scale)) {
      table[values.scale] = this.#tensor(Float32Array.of(1), [1]);
    }
    for (const name of names) {
      const spec = given.find((one) => one.name === name);
      const size = spec?.shape.reduce((product, axis) => product * axis, 1);
      if (!spec || inputs[name]?.length !== size) {
        const known = given.map(({ name: own, shape }) => `${own} [${shape}]`).join(", ") || "none";
        throw new SprintExportError("input", `inputs: ${name} has ${inputs[name]?.length} values; those that can be given: ${known}`);
      }
      table[name] = this.#tensor(Float32Array.from(inputs[name]), spec.shape);
    }
    return table;
  }

  /** The picture's tensor [1, 3, H, W]. */
  async #runStages(table, run) {
    const { values, stages, sampler } = this.app;
    const loop = stages.filter((stage) => stage.when === EACH_STEP);
    const first = loop.length ? stages.indexOf(loop[0]) : 0;
    let x = start(sampler, run.noiseOf(0), run.schedule.times[0]);
    for (const stage of stages.slice(0, first)) {
      await this.#runStage(stage, table, run);
    }
    for (const [step, row] of loop.length ? run.schedule.rows.entries() : []) {
      const inside = { ...table, [values.state]: this.#tensor(x, run.shape) };
      if (values.step) {
        inside[values.step] = this.#tensor(BigInt64Array.of(BigInt(row)), [1]);
      }
      for (const stage of loop) {
        await this.#runStage(stage, inside, { ...run, step });
      }
      x = inside[values.denoised] ? toFloats(inside[values.denoised]) : x;
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
    if (optional && listInputs(this.app.networks[network]).some(({ name }) => !(name in table))) {
      return;
    }
    onProgress({ stage: network, step });
    const began = performance.now();
    const written = await this.networks.run(network, table);
    milliseconds[network] = (milliseconds[network] ?? 0) + performance.now() - began;
    onStage({ network, step, written });
    Object.assign(table, written);
  }

  /** Height and width of a picture that is one. */
  #checkPicture(picture) {
    const dims = picture?.dims ?? [];
    if (dims.length !== 4 || dims[0] !== 1 || dims[1] !== 3) {
      throw new SprintExportError("network", `the picture has the shape [${dims}], expected [1, 3, height, width]; export the bundle again`);
    }
    const bad = toFloats(picture).reduce((count, value) => count + Number(!Number.isFinite(value)), 0);
    if (bad) {
      throw new SprintExportError("network", `${bad} values of the picture are NaN or infinite; its weights are damaged or too large for the type it computes in`);
    }
    return dims.slice(2);
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
      resolve(undefined);
    };
    channel.port2.postMessage(null);
  });
}
