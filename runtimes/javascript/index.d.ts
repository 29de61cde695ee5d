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
   * Needs pictures decoded. */
  compare?: boolean;
  /** Bytes that the bundle may take; one that takes more for sure is refused before it is loaded. Default: what `planMemory` finds. */
  memoryLimit?: number;
  onProgress?: (progress: Progress) => void;
  /** Of opening; what is drawn later has its own. */
  signal?: AbortSignal;
}

/** RGB or RGBA of 8 bits as ImageData has it, or a picture file: a PNG in Node, in browsers whatever they decode. */
export type GivenPicture = { data: ArrayLike<number>; width: number; height: number } | Blob | Uint8Array | ArrayBuffer;

export interface DrawOptions {
  /** 0 to 2^64 - 1; above 2^53 - 1 as a BigInt. */
  seed?: number | bigint;
  /** One of `app.sampler.schedules`. */
  steps?: number;
  /** Pixels; default: the bundle's own. Other sizes want a bundle that was exported with --dynamic, and are multiples of what it says. */
  height?: number;
  width?: number;
  /** A picture to start from, resized as in Python; wants a bundle that was exported with --image-to-image. */
  image?: GivenPicture;
  /** How far from it, above 0 to 1 (default 0.6): the last so much of the steps is run; at 1, or with one step, they start from noise alone. */
  strength?: number;
  /** A picture that steers, resized as in Python; wants a bundle with a ControlNet. */
  control?: GivenPicture;
  /** How strongly, 1 as trained. */
  controlScale?: number;
  /** Values that optional networks read, by name, for what is prepared elsewhere. */
  inputs?: Record<string, ArrayLike<number>>;
  /** Looked at before each network, and while its files are read where it is not open. */
  signal?: AbortSignal;
  /** Called before each network runs, and with the stage "" when all have: `done` of `total` runs. `step` counts from 0 inside the
   * sampler's loop. */
  onProgress?: (progress: { stage: string; step?: number; done: number; total: number }) => void;
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
  /** "image" where a given picture had a part in it, else "noise": at this strength and number of steps it had none. */
  startsFrom: "image" | "noise";
  /** Of all, and by network. */
  milliseconds: Record<string, number>;
}

export interface Comparison {
  prompt: string;
  seed: number;
  steps: number;
  /** Whether the picture is the reference's to the bit. */
  same: boolean;
  /** Largest difference of two values, of 255; null where it differs and pictures cannot be decoded here. */
  largest: number | null;
  /** What differs first on the way from the prompt to the picture: ids, mask, noise, a network, picture; "" where nothing does. */
  begins: string;
  sameIds: boolean;
}

export interface ValidateOptions {
  /** Pictures that are timed after the comparison. Default: none. */
  runs?: number;
  /** What the device is called where results of several stand side by side. Default: its processor, or the browser. */
  label?: string;
  onProgress?: (progress: { what: "reference" | "timed"; done: number; total: number }) => void;
  signal?: AbortSignal;
}

/** What `sprint-export report --merge BUNDLE *.json` joins: write it as JSON. */
export interface DeviceResult {
  kind: "device result";
  format: 2;
  /** Of the bundle. */
  identity: string;
  label: string;
  target: string;
  runtime: string;
  machine: string;
  prompts: number;
  rows: { metric: string; value: number; unit: string; component: string; note: string }[];
  /** One a drawing of the reference, as in Python. */
  checks: { prompt: string; seed: number; steps: number; largest: number; psnr_db: number; begins: string }[];
  /** How pictures were timed; null where none was. */
  bench: { runs: number; threads: number | null; processors: number; device: string } | null;
  [more: string]: unknown;
}

/** What a bundle can be asked for beside a prompt and a seed. */
export interface Abilities {
  /** Step counts, fewest first. */
  steps: number[];
  /** Whether a picture to start from has a part, at some number of steps and strength. */
  image: boolean;
  /** Whether a picture can steer. */
  control: boolean;
  /** Height and width of the bundle's own picture in pixels. */
  size: [height: number, width: number];
  /** Of what height and width are multiples; null where pictures have the bundle's own size. */
  multiples: [height: number, width: number] | null;
}

export interface Pipeline {
  /** The bundle's app.json. */
  readonly app: any;
  readonly abilities: Abilities;
  /** Files that the browser had no room to keep. */
  readonly notKept: string[];
  /** What runs the networks, e.g. "onnxruntime-web 1.30.0 wasm, 2 threads". */
  readonly description: string;
  /** Words that the student's tokenizer does not know, each once: it draws as if other words stood there. */
  listUnknown(prompt: string): string[];
  encodePrompt(prompt: string): { ids: BigInt64Array; mask: BigInt64Array };
  /** Calls wait for each other. Rejects with the signal's reason when aborted, else with SprintExportError. */
  draw(prompt: string, options?: DrawOptions): Promise<Picture>;
  /** Draw the bundle's reference again and compare. */
  check(options?: { signal?: AbortSignal }): Promise<{ drawings: Comparison[] }>;
  /** Draw the whole reference again, compare every network's outputs, time pictures. Needs the bundle's bundle.json beside its app.json. */
  validate(options?: ValidateOptions): Promise<DeviceResult>;
  close(): Promise<void>;
}

/** Open a bundle: a folder's URL, in Node also its path. */
export function openBundle(folder: string | URL, options?: OpenOptions): Promise<Pipeline>;

/** Memory in bytes, from the sizes that app.json gives: at least so much is needed. What a picture takes on its way comes to it. */
export interface MemoryPlan {
  /** Of all files. */
  download: number;
  /** In the order they run; optional ones are opened when a picture asks for them. */
  networks: { name: string; bytes: number; optional: boolean }[];
  /** Of all that are open: with `oneAtATime` the largest one alone. */
  least: number;
  leastOneAtATime: number;
  /** What there is: 4 GiB in WebAssembly, or what the machine says that it has; Infinity where nothing says. */
  limit: number;
}

/** What a bundle takes, by its app.json as parsed JSON, before it is opened. */
export function planMemory(app: unknown, options?: { provider?: string; oneAtATime?: boolean; memoryLimit?: number }): MemoryPlan;

/** The first `count` values of a seed's noise, the same bits as in Python and C++. */
export function makeNoise(seed: number | bigint, count: number): Float32Array<ArrayBuffer>;

/** `openBundle` over a runtime and a tokenizer of your own: for workers without bare imports. */
export function makeOpener(parts: {
  ort: any;
  Tokenizer: any;
  defaultProvider?: string;
  toBase?: (folder: string | URL) => string;
  readFile?: (url: string, options: { most: number; bytes?: number; base?: string; signal?: AbortSignal; onBytes?: (done: number) => void }) => Promise<Uint8Array>;
  decodePicture?: (bytes: Uint8Array<ArrayBuffer>) => Promise<{ data: ArrayLike<number>; width: number; height: number }>;
  describeMachine?: () => { name: string; processors: number; versions: Record<string, string>; memory?: number };
}): typeof openBundle;

/** What was found, and what to do about it. */
export class SprintExportError extends Error {
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown });
  readonly code: ErrorCode;
}

export type ErrorCode = "app" | "file" | "memory" | "provider" | "network" | "input" | "reference" | "tokenizer";
