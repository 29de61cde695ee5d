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
      for (const { prompt, ...options } of job.drawings) {
        const { data, width, height, milliseconds } = await pipeline.draw(prompt, options);
        pictures.push({ rgba: encode(data), width, height, milliseconds });
      }
      return pictures;
    }),
  check: (api, job) => using(api, job, (pipeline) => pipeline.check()),
  noise: ({ makeNoise }, { seed, count }) => encode(bytesOf(makeNoise(BigInt(seed), count))),
  ids: (api, job) => using(api, job, (pipeline) => job.prompts.map((prompt) => [...pipeline.encodePrompt(prompt).ids].map(Number))),
  /** What onProgress said while opening. */
  progress: async (api, job) => {
    const told = [];
    await using(api, { ...job, options: { ...job.options, onProgress: (progress) => told.push(progress) } }, () => {});
    return told;
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
  /** Milliseconds of draws, the first left out. */
  time: (api, job) =>
    using(api, job, async (pipeline) => {
      const times = [];
      for (let i = 0; i <= job.runs; i++) {
        times.push((await pipeline.draw(job.prompt, { seed: i })).milliseconds.total);
      }
      return times.slice(1);
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
