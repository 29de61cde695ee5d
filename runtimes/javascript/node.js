// The package in Node: onnxruntime-node, bundles from folders and URLs.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";

import { readFile, toBase } from "./src/node_files.js";
import { describeMachine } from "./src/node_machine.js";
import { decodePicture } from "./src/node_pictures.js";
import { makePlanner } from "./src/memory.js";
import { makeOpener } from "./src/open.js";

export { SprintExportError } from "./src/errors.js";
export { makeNoise } from "./src/noise.js";
export { makeOpener };

const runtime = ort.InferenceSession ? ort : /** @type {any} */ (ort).default;
export const openBundle = makeOpener({ ort: runtime, Tokenizer, defaultProvider: "cpu", toBase, readFile, decodePicture, describeMachine });
export const planMemory = makePlanner({ defaultProvider: "cpu", describeMachine });
