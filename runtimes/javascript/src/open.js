// Open a bundle and draw. Runtime and tokenizer are handed in, so that this module is the same in Node, a page and a worker.

import { openCache } from "./cache.js";
import { checkReference } from "./check.js";
import { SprintExportError } from "./errors.js";
import { Files } from "./files.js";
import { describeBrowser } from "./machine.js";
import { describeMemory, refuseTooLarge } from "./memory.js";
import { Networks } from "./networks.js";
import { Pipeline } from "./pipeline.js";
import { checkProvider, setThreads } from "./providers.js";
import { refuseUnknown } from "./request.js";
import { openTokenizer } from "./tokenizer.js";

const MOST_APART = 64; // of 255: float16 and other orders of sums stay far below, a wrong kernel goes far above
const OPTIONS = ["provider", "threads", "oneAtATime", "cache", "verify", "compare", "memoryLimit", "onProgress", "signal"];

/** @typedef {import("../index.d.ts").Progress} Progress */

/** Make `openBundle` of a runtime and a tokenizer.
 * @param {{ort: any, Tokenizer: any, defaultProvider?: string, toBase?: (folder: string | URL) => string,
 *   readFile?: typeof import("./files.js").fetchFile, decodePicture?: Function, describeMachine?: () => {name: string, processors: number, versions: object, memory?: number}}} parts
 */
export function makeOpener(parts) {
  const { ort, Tokenizer, defaultProvider = "wasm", toBase = toPageBase, readFile, decodePicture, describeMachine = describeBrowser } = parts;

  /** Open a bundle.
   * @param {string | URL} folder its URL, in Node also its path
   * @param {import("../index.d.ts").OpenOptions} [options]
   * @returns {Promise<Pipeline>}
   * @throws {SprintExportError} a file is missing, damaged, the runtime cannot open it, or it takes more memory than there is
   */
  return async function openBundle(folder, options = {}) {
    refuseUnknown("openBundle", options, OPTIONS);
    const { provider = defaultProvider, threads, oneAtATime = false, cache = true, verify = true, memoryLimit, signal } = options;
    const onProgress = options.onProgress ?? (() => {});
    signal?.throwIfAborted();
    await checkProvider(ort, provider);
    const sessionOptions = setThreads(ort, threads);
    const files = new Files(toBase(folder), { verify, readFile, cache: cache && !readFile ? openCache() : null });
    const app = await files.readApp(signal);
    const machine = describeMachine();
    refuseTooLarge(files.base, describeMemory(app, { provider, oneAtATime, memoryLimit, memory: machine.memory }));
    const tokenizers = await openTokenizers(Tokenizer, app, files, { onProgress, signal });
    const networks = new Networks(ort, app, files, { provider, oneAtATime, sessionOptions, onProgress });
    try {
      await networks.openAll(signal);
    } catch (error) {
      await networks.close();
      throw error;
    }
    const pipeline = new Pipeline({ ort, app, files, tokenizers, networks, decodePicture, place: { provider, threads }, machine });
    if (options.compare ?? (provider !== defaultProvider && !oneAtATime && app.reference !== null)) {
      await refuseWrong(pipeline, provider, signal).catch(async (error) => {
        await pipeline.close();
        throw error;
      });
    }
    return pipeline;
  };
}

/** A provider may lack a kernel's corner and say nothing: its first picture is compared with the bundle's. */
async function refuseWrong(pipeline, provider, signal) {
  const { drawings } = await checkReference(pipeline, { most: 1, signal });
  const { largest, prompt } = drawings[0] ?? { largest: 0, prompt: "" };
  if (largest !== null && largest > MOST_APART) {
    const found = `${JSON.stringify(provider)} draws ${JSON.stringify(prompt)} ${largest} of 255 apart from the bundle's reference`;
    const { target } = pipeline.app;
    const why = await describeLack(provider);
    throw new SprintExportError("provider", `${found}, expected at most ${MOST_APART}: it computes ${target} wrongly${why}; take a bundle of another target, or another provider`);
  }
}

/** What the graphics processor here lacks that graphs of 16 bits want; onnxruntime-web opens them and says nothing. */
async function describeLack(provider) {
  const adapter = provider === "webgpu" ? await globalThis.navigator?.gpu?.requestAdapter() : null;
  return adapter && !adapter.features.has("shader-f16") ? " (this device has no shader-f16, which graphs of 16 bits want)" : "";
}

/** The folder's URL with a slash at its end; relative ones are the page's. */
function toPageBase(folder) {
  const url = new URL(folder, globalThis.location?.href);
  if (url.search || url.hash) {
    throw new SprintExportError("input", `${url}: expected the address of a folder, without ? and #`);
  }
  return url.href.endsWith("/") ? url.href : `${url.href}/`;
}

async function openTokenizers(Tokenizer, app, files, { onProgress, signal }) {
  const tokenizers = {};
  for (const { file } of app.prompt.steps.filter((step) => step.do === "tokenize")) {
    const total = files.known.get(file).bytes;
    const bytes = await files.read(file, (done) => onProgress({ stage: "tokenizer", done, total }), signal);
    tokenizers[file] = openTokenizer(Tokenizer, bytes, file);
  }
  return tokenizers;
}
