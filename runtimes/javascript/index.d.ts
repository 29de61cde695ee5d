/** Draw pictures from a sprint-export bundle, in Node and in browsers. */

export interface Progress {
  /** A network's name, or "tokenizer". */
  stage: string;
  /** Bytes of its files that are here. */
  done: number;
  /** Bytes of all its files. */
  total: number;
}

export interface OpenOptions {
  /** Browser: "wasm" (default), "webgpu", "webnn". Node: "cpu" (default) or what onnxruntime-node lists. One that is not here is an error. */
  provider?: string;
  /** Threads of the runtime; in a browser more than one need a cross-origin isolated page. Default: the runtime's choice. */
  threads?: number;
  /** Hold one network in memory at a time; each draw opens them again. */
  oneAtATime?: boolean;
  /** Keep files in the browser by their sha256 (default). Node reads the folder. */
  cache?: boolean;
  /** Compare every file with its sha256 (default). false: sizes only, and nothing is kept. */
  verify?: boolean;
  /** Draw the bundle's reference once and refuse a provider that draws something else. Default: for other providers than the default one.
   * Needs pictures decoded, so it finds nothing in Node. */
  compare?: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface DrawOptions {
  /** 0 to 2^64 - 1; above 2^53 - 1 as a BigInt. */
  seed?: number | bigint;
  /** One of `app.sampler.schedules`. */
  steps?: number;
  /** Values that optional networks read, by name: a control picture, how strongly it steers. */
  inputs?: Record<string, ArrayLike<number>>;
  /** Looked at before each network. */
  signal?: AbortSignal;
  /** Called before each network runs; `step` counts from 0 inside the sampler's loop. */
  onProgress?: (progress: { stage: string; step?: number }) => void;
  /** Called with what each network wrote: tensors of the runtime by name. */
  onStage?: (stage: { network: string; step?: number; written: Record<string, unknown> }) => void;
}

export interface Picture {
  /** RGBA, width * height * 4. */
  data: Uint8ClampedArray<ArrayBuffer>;
  width: number;
  height: number;
  seed: number | bigint;
  steps: number;
  /** Of all, and by network. */
  milliseconds: Record<string, number>;
}

export interface Comparison {
  prompt: string;
  seed: number;
  steps: number;
  /** Whether the picture is the reference's to the bit. */
  same: boolean;
  /** Largest difference of two values, of 255; null where it differs and pictures cannot be decoded here (Node). */
  largest: number | null;
  sameIds: boolean;
}

export interface Pipeline {
  /** The bundle's app.json. */
  readonly app: any;
  /** Files that the browser had no room to keep. */
  readonly notKept: string[];
  encodePrompt(prompt: string): { ids: BigInt64Array; mask: BigInt64Array };
  /** Calls wait for each other. Rejects with the signal's reason when aborted, else with SprintExportError. */
  draw(prompt: string, options?: DrawOptions): Promise<Picture>;
  /** Draw the bundle's reference again and compare. */
  check(): Promise<{ drawings: Comparison[] }>;
  close(): Promise<void>;
}

/** Open a bundle: a folder's URL, in Node also its path. */
export function openBundle(folder: string | URL, options?: OpenOptions): Promise<Pipeline>;

/** The first `count` values of a seed's noise, the same bits as in Python and C++. */
export function makeNoise(seed: number | bigint, count: number): Float32Array<ArrayBuffer>;

/** `openBundle` over a runtime and a tokenizer of your own: for workers without bare imports. */
export function makeOpener(parts: {
  ort: any;
  Tokenizer: any;
  defaultProvider?: string;
  toBase?: (folder: string | URL) => string;
  readFile?: (url: string, options: { most: number; signal?: AbortSignal; onBytes?: (done: number) => void }) => Promise<Uint8Array>;
  decodePicture?: (bytes: Uint8Array<ArrayBuffer>) => Promise<{ data: ArrayLike<number>; width: number; height: number }>;
}): typeof openBundle;

/** What was found, and what to do about it. */
export class SprintExportError extends Error {
  readonly code: "app" | "file" | "provider" | "network" | "input" | "reference" | "tokenizer";
}
