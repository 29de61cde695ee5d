// node wasm_nodes.mjs FOLDER: runs FOLDER/jobs.json's graphs in onnxruntime-web, by WebAssembly in one thread, without graph optimizations.
//
//   jobs.json   [{ model, feeds: { name: { type, dims, file } }, outputs: [name, ...], to: [file, ...] }]   files are raw little-endian values
//   done.json   [null or what went wrong, ...]
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import * as ort from "onnxruntime-web";

const ARRAYS = {
  float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array, bool: Uint8Array, float16: Uint16Array,
};
const folder = process.argv[2];
ort.env.wasm.numThreads = 1;

async function run({ model, feeds, outputs, to }) {
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "disabled", logSeverityLevel: 3, extra: { session: { qdqisint8allowed: "1" } } };
  const session = await ort.InferenceSession.create(readFileSync(join(folder, model)), options);
  const given = Object.entries(feeds).map(([name, { type, dims, file }]) => {
    const bytes = readFileSync(join(folder, file));
    const values = new ARRAYS[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    return [name, new ort.Tensor(type, values, dims)];
  });
  const written = await session.run(Object.fromEntries(given), outputs);
  for (const [place, name] of outputs.entries()) {
    const { data } = written[name];
    writeFileSync(join(folder, to[place]), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  await session.release();
}

const done = [];
for (const job of JSON.parse(readFileSync(join(folder, "jobs.json"), "utf8"))) {
  done.push(await run(job).then(() => null, (error) => String(error.message ?? error)));
}
writeFileSync(join(folder, "done.json"), JSON.stringify({ done, version: ort.env.versions.web }));
