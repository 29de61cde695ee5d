// What the tests ask of the package, in Node and in a page alike: each job takes plain data and gives plain data.

/** Bytes as text. */
function encode(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

/** A tensor of text: type, dims, and bytes as `encode` writes them. */
function readTensor(ort, { type, dims, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new ort.Tensor(type, new ARRAYS[type](bytes.buffer), dims);
}

const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** A given picture of plain data: pixels `{ data, width, height }` or a file `{ png }`, bytes as `encode` writes them. */
const readGiven = ({ data, png, ...size }) => (png === undefined ? { ...size, data: decode(data) } : decode(png));

async function using(api, { bundle, options }, act) {
  const pipeline = await api.openBundle(bundle, options);
  try {
    return await act(pipeline);
  } finally {
    await pipeline.close();
  }
}

const jobs = {
  /** Pictures as RGBA. */
  draw: (api, job) =>
    using(api, job, async (pipeline) => {
      const pictures = [];
      for (const { prompt, seed = 0, image, control, ...options } of job.drawings) {
        const given = { ...(image && { image: readGiven(image) }), ...(control && { control: readGiven(control) }) };
        const { data, width, height, startsFrom, milliseconds } = await pipeline.draw(prompt, { seed: BigInt(seed), ...given, ...options });
        pictures.push({ rgba: encode(data), width, height, startsFrom, milliseconds });
      }
      return pictures;
    }),
  /** One network by itself: how long it takes to open and to run, what it writes, and the most memory that the process held (Node). */
  network: async (api, job) => {
    const began = performance.now();
    const pipeline = await api.openBundle(job.bundle, job.options);
    const table = Object.fromEntries(Object.entries(job.feeds).map(([name, value]) => [name, readTensor(pipeline.ort, value)]));
    const milliseconds = [];
    let written = {};
    let open = 0;
    for (let i = 0; i <= job.runs; i++) {
      const start = performance.now();
      written = await pipeline.networks.run(job.network, table);
      milliseconds.push(Math.round(100 * (performance.now() - start)) / 100);
      open ||= performance.now() - began;
    }
    const peak = globalThis.process ? globalThis.process.resourceUsage().maxRSS * 1024 : null;
    await pipeline.close();
    const outputs = Object.entries(written).map(([name, { type, data }]) => [name, { type, data: encode(bytesOf(data)) }]);
    return { open, milliseconds, peak, written: Object.fromEntries(outputs) };
  },
  /** A result for `report --merge`. */
  validate: (api, job) => using(api, job, (pipeline) => pipeline.validate(job.asked)),
  /** Words that a tokenizer does not know, of each prompt. */
  unknown: (api, job) => using(api, job, (pipeline) => job.prompts.map((prompt) => pipeline.listUnknown(prompt))),
  /** RGB of another size, by the package's own module. */
  resize: async (_, { data, from, to }) => {
    const { resize } = await import("./node_modules/sprint-export/src/resize.js");
    return encode(resize(decode(data), from, to));
  },
  /** What a bundle takes, by its app.json. */
  plan: async (api, { app, options }) => api.planMemory(app, options),
  /** What can be asked of it. */
  abilities: (api, job) => using(api, job, ({ abilities }) => abilities),
  /** What onProgress said while drawing. */
  drawing: (api, job) =>
    using(api, job, async (pipeline) => {
      const told = [];
      await pipeline.draw("a", { ...job.asked, onProgress: (progress) => told.push(progress) });
      return told;
    }),
  /** A bundle opened under a signal that is aborted afterwards; drawn, then drawn under one that is aborted. */
  outlive: async (api, { bundle, options }) => {
    const opening = new AbortController();
    const pipeline = await api.openBundle(bundle, { ...options, signal: opening.signal });
    opening.abort();
    const { width } = await pipeline.draw("a");
    const name = await pipeline.draw("a", { signal: AbortSignal.abort() }).then(() => "drawn", (error) => error.name);
    await pipeline.close();
    return { width, name };
  },
  check: (api, job) => using(api, job, (pipeline) => pipeline.check()),
  noise: ({ makeNoise }, { seed, count }) => encode(bytesOf(makeNoise(BigInt(seed), count))),
  ids: (api, job) => using(api, job, (pipeline) => job.prompts.map((prompt) => [...pipeline.encodePrompt(prompt).ids].map(Number))),
  /** What onProgress said while opening. */
  progress: async (api, job) => {
    const told = [];
    await using(api, { ...job, options: { ...job.options, onProgress: (progress) => told.push(progress) } }, () => {});
    return told;
  },
  /** Damage every file that the page keeps; how many. */
  spoil: async () => {
    const cache = await caches.open("sprint-export");
    const kept = await cache.keys();
    for (const request of kept) {
      const bytes = new Uint8Array(await (await cache.match(request)).arrayBuffer());
      bytes[bytes.length >> 1] ^= 1;
      await cache.put(request, new Response(bytes));
    }
    return kept.length;
  },
  /** Abort before the second network of a draw, then draw again. */
  abort: (api, job) =>
    using(api, job, async (pipeline) => {
      const stopper = new AbortController();
      const ran = [];
      const onProgress = ({ stage }) => ran.push(stage) && stopper.abort();
      const name = await pipeline.draw("a", { signal: stopper.signal, onProgress }).then(() => "drawn", (error) => error.name);
      const again = await pipeline.draw("a");
      return { name, ran, width: again.width };
    }),
  /** A picture; others of seeds 0, 1, ... with their milliseconds; what each network writes of given inputs. */
  measure: (api, job) =>
    using(api, job, async (pipeline) => {
      const { data, width, height } = await pipeline.draw(job.prompt, { seed: job.seed, steps: job.steps });
      const others = [];
      for (let seed = 0; seed < job.runs; seed++) {
        const { data, milliseconds } = await pipeline.draw(job.prompt, { seed, steps: job.steps });
        others.push({ rgba: encode(data), milliseconds: milliseconds.total });
      }
      const calls = [];
      for (const { network, feeds } of job.calls) {
        const table = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, readTensor(pipeline.ort, value)]));
        const written = await pipeline.networks.run(network, table);
        calls.push(Object.fromEntries(Object.entries(written).map(([name, { type, data }]) => [name, { type, data: encode(bytesOf(data)) }])));
      }
      return { rgba: encode(data), width, height, others, calls };
    }),
};

/** Run jobs in order; one that fails gives its error as data. */
export async function runJobs(api, list) {
  const results = [];
  for (const job of list) {
    try {
      results.push({ value: await jobs[job.do](api, job) });
    } catch (error) {
      results.push({ error: { name: error.name, code: error.code, message: error.message } });
    }
  }
  return results;
}
