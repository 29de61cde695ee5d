// Draws beside the page, so that typing never waits for a network: one bundle open, one call at a time, answers by message.
//
//   { id, kind: "open" | "draw" | "check" | "validate" | "stop", ... } -> { id, kind: "done", value } | { id, kind: "failed", message, isStopped }
//   while loading: { kind: "progress", stage, done, total } in bytes

import { makeOpener } from "./package/open.js";
import { Tokenizer } from "./vendor/tokenizers/tokenizers.min.mjs";

let pipeline = null;
const drawings = new Map(); // id -> AbortController

const tell = (stage, done, total) => postMessage({ kind: "progress", stage, done, total });

/** Fetch a file, telling how far it is. */
async function fetchBytes(url, total, stage) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url}: the server answered ${response.status}`);
  }
  const bytes = new Uint8Array(total);
  let done = 0;
  for await (const part of readParts(response.body)) {
    if (done + part.length > total) {
      throw new Error(`${url} has more than the ${total} bytes that site.json says`);
    }
    bytes.set(part, done);
    done += part.length;
    tell(stage, done, total);
  }
  if (done !== total) {
    throw new Error(`${url} has ${done} bytes, expected ${total}`);
  }
  return bytes;
}

/** The parts of a stream; Safari's has no iterator. */
async function* readParts(stream) {
  const reader = stream.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    yield read.value;
  }
}

/** ONNX Runtime for a provider, its WebAssembly fetched here so that its bytes are counted. */
async function loadRuntime({ module, binary, bytes }, threads) {
  const ort = await import(new URL(module, self.location.href).href);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = await fetchBytes(new URL(binary, self.location.href), bytes, "runtime");
  return ort;
}

/** The pixels of a PNG as they are stored. */
async function decodePicture(bytes) {
  const image = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

async function open({ provider, threads, runtime, bundle }) {
  const ort = await loadRuntime(runtime, threads);
  const openBundle = makeOpener({ ort, Tokenizer, decodePicture });
  const options = {
    provider,
    cache: false, // the service worker keeps every file, by its hash
    verify: self.isSecureContext, // elsewhere browsers have no sha256
    onProgress: ({ stage, done, total }) => tell(stage, done, total),
  };
  const url = new URL(bundle, self.location.href).href;
  let oneAtATime = false;
  pipeline = await openBundle(url, options).catch((error) => {
    if (error.code !== "memory") {
      throw error;
    }
    oneAtATime = true;
    return openBundle(url, { ...options, oneAtATime });
  });
  return { app: pipeline.app, abilities: pipeline.abilities, oneAtATime };
}

async function draw({ prompt, ...options }, id) {
  const stopper = new AbortController();
  drawings.set(id, stopper);
  try {
    const picture = await pipeline.draw(prompt, { ...options, signal: stopper.signal });
    return { ...picture, unknown: pipeline.listUnknown(prompt) };
  } finally {
    drawings.delete(id);
  }
}

const answers = {
  open: ({ settings }) => open(settings),
  draw: ({ request, id }) => draw(request, id),
  check: () => pipeline.check(),
  validate: ({ options }) => pipeline.validate(options),
};

self.addEventListener("message", async ({ data }) => {
  const { id, kind } = data;
  if (kind === "stop") {
    drawings.get(id)?.abort();
    return;
  }
  try {
    const value = await answers[kind](data);
    postMessage({ id, kind: "done", value }, kind === "draw" ? [value.data.buffer] : []);
  } catch (error) {
    postMessage({ id, kind: "failed", message: error?.message ?? String(error), isStopped: error?.name === "AbortError" });
  }
});
