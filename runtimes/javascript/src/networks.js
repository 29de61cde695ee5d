// The networks of a bundle: each one or more graphs that run in order, open all the time or one at a time.

import { SprintExportError, describe } from "./errors.js";
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

  /** Open all but the optional ones, unless they are opened one at a time. */
  async openAll() {
    for (const { network } of this.oneAtATime ? [] : this.app.stages.filter((stage) => !stage.optional)) {
      await this.#openNetwork(network);
    }
  }

  /** What a network writes.
   * @param {string} name
   * @param {Record<string, any>} table tensors by name
   * @returns {Promise<Record<string, any>>}
   */
  async run(name, table) {
    if (this.oneAtATime) {
      await this.#closeOthers(name);
    }
    const sessions = this.#open.get(name) ?? (await this.#openNetwork(name));
    const known = { ...table };
    let written = {};
    for (const [place, graph] of this.app.networks[name].graphs.entries()) {
      const feeds = Object.fromEntries(graph.inputs.map((spec) => [spec.name, this.#feed(spec, known)]));
      try {
        written = await sessions[place].run(feeds);
      } catch (error) {
        throw new SprintExportError("network", `${name} cannot run with ${this.provider} (${describe(error)})`, { cause: error });
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
      for (const session of sessions) {
        await session.release();
      }
    }
  }

  async #openNetwork(name) {
    const { graphs } = this.app.networks[name];
    const total = graphs.flatMap(({ files }) => files).reduce((sum, path) => sum + (this.files.known.get(path)?.bytes ?? 0), 0);
    let before = 0;
    const sessions = [];
    for (const graph of graphs) {
      const contents = new Map();
      for (const path of graph.files) {
        const bytes = await this.files.read(path, (done) => this.onProgress({ stage: name, done: before + done, total }));
        before += bytes.length;
        contents.set(path, bytes);
      }
      sessions.push(await this.#openGraph(graph, contents));
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
      const message = `${graph.path} cannot be opened with ${this.provider} (${describe(error)}); it needs at least ${needs}`;
      throw new SprintExportError("network", message, { cause: error });
    }
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
