// The networks of a bundle: each one or more graphs that run in order, open all the time or one at a time.

import { SprintExportError, describe } from "./errors.js";
import { isShort } from "./memory.js";
import { fillAxes, findUnits } from "./sizes.js";
import { makeTensor } from "./tensors.js";

// As Python and C++ open graphs: signed 8 bits stay signed, and products of weights in few bits do not round what they multiply.
const EXTRA = { session: { qdqisint8allowed: "1", qdq_matmulnbits_accuracy_level: "1" } };

/** @typedef {{name: string, dtype: string, shape: (number | string)[]}} Spec */

/** What a network reads from outside: its graphs' inputs that no graph before them writes.
 * @returns {Spec[]}
 */
export function listInputs({ graphs }) {
  const written = new Set();
  const inputs = new Map();
  for (const graph of graphs) {
    graph.inputs.filter(({ name }) => !written.has(name)).forEach((spec) => inputs.set(spec.name, spec));
    graph.outputs.forEach(({ name }) => written.add(name));
  }
  return [...inputs.values()];
}

export class Networks {
  #open = new Map(); // network -> its sessions, in order

  /**
   * @param {any} ort onnxruntime-web's or onnxruntime-node's module
   * @param {any} app
   * @param {import("./files.js").Files} files
   * @param {{provider: string, oneAtATime: boolean, sessionOptions: object, onProgress: (progress: import("../index.d.ts").Progress) => void}} options
   */
  constructor(ort, app, files, options) {
    this.ort = ort;
    this.app = app;
    this.files = files;
    this.provider = options.provider;
    this.oneAtATime = options.oneAtATime;
    this.sessionOptions = options.sessionOptions;
    this.onProgress = options.onProgress;
    this.hasOptional = app.stages.some(({ optional }) => optional);
  }

  /** Open all but the optional ones, unless they are opened one at a time.
   * @param {AbortSignal} [signal]
   */
  async openAll(signal) {
    for (const { network } of this.oneAtATime ? [] : this.app.stages.filter((stage) => !stage.optional)) {
      await this.#openNetwork(network, signal);
    }
    signal?.throwIfAborted();
  }

  /** What a network writes.
   * @param {string} name
   * @param {Record<string, any>} table tensors by name
   * @param {AbortSignal} [signal] looked at while its files are read, where it is not open yet
   * @returns {Promise<Record<string, any>>}
   */
  async run(name, table, signal) {
    if (this.oneAtATime) {
      await this.#closeOthers(name);
    }
    const sessions = this.#open.get(name) ?? (await this.#openNetwork(name, signal));
    const known = { ...table };
    let written = {};
    for (const [place, graph] of this.app.networks[name].graphs.entries()) {
      const feeds = Object.fromEntries(graph.inputs.map((spec) => [spec.name, this.#feed(spec, known)]));
      try {
        written = await sessions[place].run(feeds);
      } catch (error) {
        throw this.#fail(error, `${name} cannot run with ${this.provider} (${describe(error)})`);
      }
      Object.assign(known, written);
    }
    return written;
  }

  async close() {
    await this.#closeOthers(null);
  }

  async #closeOthers(name) {
    for (const [other, sessions] of [...this.#open].filter(([other]) => other !== name)) {
      this.#open.delete(other);
      await release(sessions);
    }
  }

  async #openNetwork(name, signal) {
    const { graphs } = this.app.networks[name];
    const total = graphs.flatMap(({ files }) => files).reduce((sum, path) => sum + (this.files.known.get(path)?.bytes ?? 0), 0);
    let before = 0;
    const sessions = [];
    try {
      for (const graph of graphs) {
        const contents = new Map();
        for (const path of graph.files) {
          const bytes = await this.files.read(path, (done) => this.onProgress({ stage: name, done: before + done, total }), signal);
          before += bytes.length;
          contents.set(path, bytes);
        }
        sessions.push(await this.#openGraph(graph, contents));
      }
    } catch (error) {
      await release(sessions);
      throw error;
    }
    this.#open.set(name, sessions);
    return sessions;
  }

  async #openGraph(graph, contents) {
    const folder = graph.path.slice(0, graph.path.lastIndexOf("/") + 1);
    const beside = graph.files.filter((path) => path !== graph.path);
    const externalData = beside.map((path) => ({ path: path.slice(folder.length), data: contents.get(path) }));
    const options = { executionProviders: [this.provider], logSeverityLevel: 3, extra: EXTRA, ...this.sessionOptions };
    try {
      return await this.ort.InferenceSession.create(contents.get(graph.path), beside.length ? { ...options, externalData } : options);
    } catch (error) {
      const needs = Object.entries(this.app.runtimes).map(([name, version]) => `${name} ${version}`).join(", ");
      const found = `${this.files.base}${graph.path} cannot be opened with ${this.provider} (${describe(error)})`;
      throw this.#fail(error, found, `; it needs at least ${needs}`);
    }
  }

  /** The error of a runtime that failed: by lack of memory, or by something that `advice` is for. */
  #fail(error, found, advice = "") {
    if (!isShort(error)) {
      return new SprintExportError("network", `${found}${advice}`, { cause: error });
    }
    const less = this.oneAtATime ? "take a bundle with fewer bits a weight, or close other pages or programs" : "open the bundle with oneAtATime";
    return new SprintExportError("memory", `${found}: memory ran out; ${less}`, { cause: error });
  }

  /** A tensor of the type that a graph reads; zeros for what an optional network would have written. */
  #feed(spec, table) {
    const tensor = table[spec.name];
    if (tensor) {
      return tensor.type === spec.dtype ? tensor : makeTensor(this.ort, spec, tensor.data, tensor.dims);
    }
    if (!this.hasOptional) {
      throw new SprintExportError("app", `no network writes ${JSON.stringify(spec.name)}, which another one reads; export the bundle again`);
    }
    const dims = fillAxes(spec.shape, this.#findUnits(table));
    const size = dims.reduce((product, axis) => product * axis, 1);
    return makeTensor(this.ort, spec, new Float32Array(size), dims);
  }

  /** Units of the free axes, by the state that is there. */
  #findUnits(table) {
    const state = table[this.app.values.state];
    return (state && this.app.sizes && findUnits(this.app.sizes.noise, state.dims.slice(1))) || {};
  }
}

async function release(sessions) {
  for (const session of sessions) {
    await session.release();
  }
}
