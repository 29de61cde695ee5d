// An open bundle: prompts to pictures, by the stages of app.json.

import { listAbilities } from "./abilities.js";
import { checkReference } from "./check.js";
import { SprintExportError } from "./errors.js";
import { describeRuntime } from "./machine.js";
import { listInputs } from "./networks.js";
import { makeNoise } from "./noise.js";
import { readPicture } from "./pictures.js";
import { encodePrompt, listUnknown } from "./prompt.js";
import { arrangeInputs, findEncoder, findSourceSize, readRequest, refuseUnknown } from "./request.js";
import { validate } from "./result.js";
import { mix, start, toPixels } from "./sampler.js";
import { toFloats } from "./tensors.js";

const EACH_STEP = "each step";

export class Pipeline {
  #last = Promise.resolve(); // a session runs one call at a time
  #isClosed = false;

  /** @param {{ort: any, app: any, files: any, tokenizers: any, networks: any, decodePicture?: Function,
   *   place: {provider: string, threads?: number}, machine: {name: string, processors: number, versions: object}}} parts */
  constructor(parts) {
    this.ort = parts.ort;
    this.app = parts.app;
    this.files = parts.files;
    this.tokenizers = parts.tokenizers;
    this.networks = parts.networks;
    this.decodePicture = parts.decodePicture;
    this.place = parts.place;
    this.machine = parts.machine;
  }

  /** Files that the browser had no room to keep: they will be fetched again. */
  get notKept() {
    return [...this.files.notKept];
  }

  /** What can be asked of `draw`; see abilities.js. */
  get abilities() {
    return listAbilities(this.app);
  }

  /** What runs the networks, e.g. "onnxruntime-web 1.30.0 wasm, 2 threads". */
  get description() {
    return describeRuntime(this.ort, this.place);
  }

  /** Ids int64 [tokens] and mask int64 [kept positions] of a prompt. */
  encodePrompt(prompt) {
    return encodePrompt(this.app.prompt, this.tokenizers, prompt);
  }

  /** Words of a prompt that the student's tokenizer does not know, each once: it draws as if other words stood there. */
  listUnknown(prompt) {
    return listUnknown(this.app.prompt, this.tokenizers, prompt);
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

  /** Draw the reference again and compare; see check.js.
   * @param {{signal?: AbortSignal}} [options]
   */
  check(options = {}) {
    refuseUnknown("check", options, ["signal"]);
    return checkReference(this, options);
  }

  /** Draw the whole reference again, time pictures, and give a result for `sprint-export report --merge`; see result.js.
   * @param {import("../index.d.ts").ValidateOptions} [options]
   */
  validate(options) {
    return validate(this, options);
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
  async #draw(prompt, options) {
    if (this.#isClosed) {
      throw new SprintExportError("input", "the pipeline is closed; open the bundle again");
    }
    const began = performance.now();
    const milliseconds = {};
    const request = readRequest(this.app, options);
    const { shape, rows, seed, steps, size: [height, width] } = request;
    const size = shape.reduce((product, axis) => product * axis, 1);
    const noise = makeNoise(seed, size * rows.length);
    const run = { ...request, milliseconds, progress: { done: 0, total: 0 }, noiseOf: (step) => noise.subarray(step * size, (step + 1) * size) };
    const table = await this.#startTable(prompt, request);
    const isEncoded = request.image !== undefined && request.times[0] < 1;
    run.progress = { done: 0, total: countRuns(this.app, Object.keys(table), rows.length) + Number(isEncoded) };
    const x = await this.#start(run);
    const picture = await this.#runStages(table, x, run);
    request.onProgress({ stage: "", ...run.progress });
    const data = toPixels(toFloats(this.#checkPicture(picture, request.size)), [height, width]);
    const startsFrom = isEncoded ? "image" : "noise";
    return { data, width, height, seed, steps, startsFrom, milliseconds: { total: performance.now() - began, ...milliseconds } };
  }

  /** The values before the first stage: ids, mask, and what the caller gives to optional networks. */
  async #startTable(prompt, request) {
    const { values } = this.app;
    const { ids, mask } = this.encodePrompt(prompt);
    const control = request.control === undefined ? null : await this.#readPicture("control", request);
    const given = Object.entries(arrangeInputs(this.app, request, control));
    return {
      [values.ids]: this.#tensor(ids, [1, ids.length]),
      [values.mask]: this.#tensor(mask, [1, mask.length]),
      ...Object.fromEntries(given.map(([name, [dims, data]]) => [name, this.#tensor(data, dims)])),
    };
  }

  /** x before the first step: noise, or noise over what a given picture is encoded to. */
  async #start(run) {
    const { image, shape, times, noiseOf } = run;
    if (image === undefined || times[0] >= 1) {
      return start(this.app.sampler, noiseOf(0), times[0]);
    }
    const { source, encoded } = this.app.values;
    const [height, width] = findSourceSize(this.app, run.units);
    const table = { [source]: this.#tensor(await this.#readPicture("image", run), [1, 3, height, width]) };
    await this.#runStage({ network: findEncoder(this.app), optional: false }, table, run);
    const state = toFloats(table[encoded]);
    if (state.length !== shape.reduce((product, axis) => product * axis, 1)) {
      throw new SprintExportError("network", `${encoded} has the shape [${table[encoded].dims}], expected [${shape}]; export the bundle again`);
    }
    return mix(state, noiseOf(0), times[0]);
  }

  #readPicture(name, request) {
    return readPicture(name, request[name], findSourceSize(this.app, request.units), this.decodePicture);
  }

  /** The picture's tensor [1, 3, H, W], from x before the first step. */
  async #runStages(table, x, run) {
    const { values, stages } = this.app;
    const loop = stages.filter((stage) => stage.when === EACH_STEP);
    const first = loop.length ? stages.indexOf(loop[0]) : 0;
    for (const stage of stages.slice(0, first)) {
      await this.#runStage(stage, table, run);
    }
    for (const [step, row] of loop.length ? run.rows.entries() : []) {
      const inside = { ...table, [values.state]: this.#tensor(x, run.shape) };
      if (values.step) {
        inside[values.step] = this.#tensor(BigInt64Array.of(BigInt(row)), [1]);
      }
      for (const stage of loop) {
        await this.#runStage(stage, inside, { ...run, step });
      }
      x = inside[values.denoised] ? toFloats(inside[values.denoised]) : x;
      if (step + 1 < run.rows.length) {
        x = mix(x, run.noiseOf(step + 1), run.times[step + 1]);
      }
    }
    table[values.state] = this.#tensor(Float32Array.from(x), run.shape);
    for (const stage of stages.slice(first + loop.length)) {
      await this.#runStage(stage, table, run);
    }
    return table[values.picture];
  }

  /** Run one network, add what it writes to the table and its time to the others. */
  async #runStage({ network, optional }, table, { milliseconds, signal, onProgress, onStage, progress, step }) {
    await yieldToMessages();
    signal?.throwIfAborted();
    if (optional && listInputs(this.app.networks[network]).some(({ name }) => !(name in table))) {
      return;
    }
    onProgress({ stage: network, step, ...progress });
    const began = performance.now();
    const written = await this.networks.run(network, table, signal);
    milliseconds[network] = (milliseconds[network] ?? 0) + performance.now() - began;
    progress.done++;
    onStage({ network, step, written });
    Object.assign(table, written);
  }

  /** The tensor of a picture, where it is one. */
  #checkPicture(picture, [height, width]) {
    const dims = picture?.dims ?? [];
    if (`${dims}` !== `1,3,${height},${width}`) {
      throw new SprintExportError("network", `the picture has the shape [${dims}], expected [1, 3, ${height}, ${width}]; export the bundle again`);
    }
    const bad = toFloats(picture).reduce((count, value) => count + Number(!Number.isFinite(value)), 0);
    if (bad) {
      throw new SprintExportError("network", `${bad} values of the picture are NaN or infinite; its weights are damaged or too large for the type it computes in`);
    }
    return picture;
  }

  #tensor(data, dims) {
    return new this.ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, dims);
  }
}

/** How many times networks run after the start: optional ones only where there is what they read. */
function countRuns({ networks, stages, values }, names, steps) {
  const there = new Set([...names, values.state, values.step]);
  let count = 0;
  for (const { network, when, optional } of stages) {
    if (!optional || listInputs(networks[network]).every(({ name }) => there.has(name))) {
      networks[network].graphs.at(-1).outputs.forEach(({ name }) => there.add(name));
      count += when === EACH_STEP ? steps : 1;
    }
  }
  return count;
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
