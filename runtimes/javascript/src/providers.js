// Execution providers: whether one is here, and with how many threads. Nothing falls back to another in silence.

import { SprintExportError } from "./errors.js";

/** Check that a provider can run here.
 * @param {any} ort
 * @param {string} provider
 * @throws {SprintExportError} it cannot; the text names it and those that can
 */
export async function checkProvider(ort, provider) {
  const refuse = (why) => {
    throw new SprintExportError("provider", `provider ${JSON.stringify(provider)} is not available here: ${why}`);
  };
  if (typeof ort.listSupportedBackends === "function") {
    const names = ort.listSupportedBackends().map(({ name }) => name);
    if (!names.includes(provider)) {
      refuse(`this onnxruntime-node has ${names.join(", ")}`);
    }
  } else if (provider === "webgpu") {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter();
    if (!adapter) {
      refuse(`${globalThis.navigator?.gpu ? "WebGPU gives no adapter" : "this browser has no WebGPU"}; take "wasm"`);
    }
  } else if (provider === "webnn") {
    if (!("ml" in (globalThis.navigator ?? {}))) {
      refuse('this browser has no WebNN; take "wasm" or "webgpu"');
    }
  } else if (provider !== "wasm") {
    refuse("onnxruntime-web has wasm, webgpu, webnn");
  }
}

/** Options of a session with so many threads.
 * @param {any} ort
 * @param {number | undefined} threads undefined: the runtime's own choice
 * @returns {object}
 * @throws {SprintExportError} the page cannot have threads
 */
export function setThreads(ort, threads) {
  if (threads === undefined) {
    return {};
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new SprintExportError("input", `threads=${threads}: expected a whole number from 1 to 1024`);
  }
  if (typeof ort.listSupportedBackends === "function") {
    return { intraOpNumThreads: threads };
  }
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    const advice = "serve the page with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or take 1";
    throw new SprintExportError("provider", `threads=${threads}: this page is not isolated, so it has no shared memory; ${advice}`);
  }
  ort.env.wasm.numThreads = threads;
  return {};
}
