// The networks of a bundle: each one or more graphs that run in order, open all the time or one at a time.

export class Networks {
  #open = new Map(); // network -> its sessions, in order

  /**
   * @param {object} ort onnxruntime-web's or onnxruntime-node's module
   * @param {object} app
   * @param {import("./files.js").Files} files
   * @param {{provider: string, oneAtATime: boolean, onProgress: (progress: object) => void}} options
   */
  constructor(ort, app, files, options) {
    Object.assign(this, { ort, app, files, ...options });
  }

  /** Open all, unless they are opened one at a time. */
  async openAll() {
    for (const { network } of this.oneAtATime ? [] : this.app.stages.filter((stage) => !stage.optional)) {
      await this.#openNetwork(network);
    }
  }

  /** What a network writes.
   * @param {string} name
   * @param {Record<string, object>} table tensors by name
   * @returns {Promise<Record<string, object>>}
   */
  async run(name, table) {
    const sessions = this.#open.get(name) ?? (await this.#openNetwork(name));
    const known = { ...table };
    let written = {};
    for (const [place, graph] of this.app.networks[name].graphs.entries()) {
      const feeds = Object.fromEntries(graph.inputs.map((spec) => [spec.name, known[spec.name] ?? this.#makeZeros(spec)]));
      written = await sessions[place].run(feeds);
      Object.assign(known, written);
    }
    if (this.oneAtATime) {
      await this.#closeNetwork(name);
    }
    return written;
  }

  async close() {
    for (const name of [...this.#open.keys()]) {
      await this.#closeNetwork(name);
    }
  }

  async #openNetwork(name) {
    const { graphs } = this.app.networks[name];
    const paths = graphs.flatMap((graph) => graph.files);
    const total = paths.reduce((sum, path) => sum + (this.files.known.get(path)?.bytes ?? 0), 0);
    let before = 0;
    const sessions = [];
    for (const graph of graphs) {
      const contents = new Map();
      for (const path of graph.files) {
        const read = (done) => this.onProgress({ stage: name, done: before + done, total });
        const bytes = await this.files.read(path, read);
        before += bytes.length;
        contents.set(path, bytes);
      }
      sessions.push(await this.#openGraph(graph, contents));
    }
    this.#open.set(name, sessions);
    return sessions;
  }

  #openGraph(graph, contents) {
    const folder = graph.path.slice(0, graph.path.lastIndexOf("/") + 1);
    const beside = graph.files.filter((path) => path !== graph.path);
    return this.ort.InferenceSession.create(contents.get(graph.path), {
      executionProviders: [this.provider],
      externalData: beside.map((path) => ({ path: path.slice(folder.length), data: contents.get(path) })),
      logSeverityLevel: 3,
    });
  }

  async #closeNetwork(name) {
    for (const session of this.#open.get(name) ?? []) {
      await session.release();
    }
    this.#open.delete(name);
  }

  /** What a network reads where an optional one did not run. */
  #makeZeros({ name, dtype, shape }) {
    if (!shape.every(Number.isInteger)) {
      throw new Error(`${name} is not there, and its shape [${shape}] is not known`);
    }
    const size = shape.reduce((product, axis) => product * axis, 1);
    const data = { float32: () => new Float32Array(size), int64: () => new BigInt64Array(size) }[dtype]?.() ?? new Uint16Array(size);
    return new this.ort.Tensor(dtype, data, shape);
  }
}
