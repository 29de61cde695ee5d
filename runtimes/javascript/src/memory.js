// Memory that a bundle takes at least, known before anything of it is loaded: from the sizes that app.json gives.
//
//   a network      as many bytes as its files have; three times that where its weights have 16 bits and a CPU computes, WebAssembly's too,
//                  which makes them float32 beside
//   WebAssembly    networks that are open share its memory, of at most 4 GiB; of a graphics processor's memory nothing tells: no limit
//
// What a picture takes on its way is not in it (app.json does not say), nor what JavaScript holds: the files of the network that is opened.
// Measured in onnxruntime-web 1.30.0, WebAssembly's memory / bytes of weights beside a graph, 0.1 to 0.4 GB: float32 1.6, float16 3.2 to 3.4,
// MatMulNBits 1.4, products of 8 bits 1.1. docs/decisions/0064-embedding-more.md.

import { checkApp } from "./app.js";
import { SprintExportError } from "./errors.js";

const WEBASSEMBLY = 2 ** 32; // bytes that its pointers reach
const CPUS = ["cpu", "wasm"];
const HALF = /-b?fp?16$/; // of a target whose weights have 16 bits
const WIDENED = 3; // 2 bytes of a weight and 4 of its float32

/** @typedef {import("../index.d.ts").MemoryPlan} MemoryPlan */

/** What a bundle takes.
 * @param {any} app
 * @param {{provider: string, oneAtATime?: boolean, memoryLimit?: number, memory?: number}} options `memory`: of the machine, where it says
 * @returns {MemoryPlan}
 */
export function describeMemory(app, { provider, oneAtATime = false, memoryLimit, memory = Infinity }) {
  const bytesOf = new Map(app.files.map(({ path, bytes }) => [path, bytes]));
  const sum = (paths) => [...new Set(paths)].reduce((bytes, path) => bytes + bytesOf.get(path), 0);
  const times = CPUS.includes(provider) && HALF.test(app.target) ? WIDENED : 1;
  const networks = app.stages.map(({ network, optional = false }) => {
    const files = app.networks[network].graphs.flatMap((graph) => graph.files);
    return { name: network, bytes: times * sum(files), optional };
  });
  const needed = networks.filter(({ optional }) => !optional).map(({ bytes }) => bytes);
  const [together, largest] = [needed.reduce((one, other) => one + other, 0), Math.max(0, ...needed)];
  return {
    download: sum(bytesOf.keys()),
    networks,
    least: oneAtATime ? largest : together,
    leastOneAtATime: largest,
    limit: memoryLimit ?? Math.min(provider === "wasm" ? WEBASSEMBLY : Infinity, memory),
  };
}

/** Make `planMemory` for a place.
 * @param {{defaultProvider: string, describeMachine: () => {memory?: number}}} parts
 */
export function makePlanner({ defaultProvider, describeMachine }) {
  /** What a bundle takes, by its app.json.
   * @param {any} app
   * @param {{provider?: string, oneAtATime?: boolean, memoryLimit?: number}} [options]
   * @returns {MemoryPlan}
   * @throws {SprintExportError} it is no app.json
   */
  return function planMemory(app, { provider = defaultProvider, ...options } = {}) {
    return describeMemory(checkApp(app, "app.json"), { provider, ...options, memory: describeMachine().memory });
  };
}

/** Refuse a bundle that cannot fit.
 * @param {string} place where it lies
 * @param {MemoryPlan} plan
 * @throws {SprintExportError} with what it takes, what there is, and what to do
 */
export function refuseTooLarge(place, { least, leastOneAtATime, limit, networks }) {
  if (least <= limit) {
    return;
  }
  const parts = networks.map(({ name, bytes }) => `${name} ${gigabytes(bytes)}`).join(", ");
  const advice = leastOneAtATime <= limit
    ? `open it with oneAtATime, which takes at least ${gigabytes(leastOneAtATime)}`
    : "take a bundle with fewer bits a weight (web-w4a16, web-int8)";
  throw new SprintExportError("memory", `${place} takes at least ${gigabytes(least)} of memory (${parts}), and there is ${gigabytes(limit)}: ${advice}`);
}

/** Whether an error of the runtime says that memory ran out. */
export function isShort(error) {
  return /bad_alloc|bad allocation|out of memory|allocation failed|failed to allocate|\bOOM\b/i.test(String(error?.message ?? error));
}

const gigabytes = (bytes) => `${bytes < 1e8 ? (bytes / 1e9).toPrecision(2) : (bytes / 1e9).toFixed(2)} GB`;
