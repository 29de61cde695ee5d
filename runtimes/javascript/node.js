// The package in Node: onnxruntime-node, bundles from folders and URLs.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";

import { readFile, toBase } from "./src/node_files.js";
import { makeOpener } from "./src/open.js";

export { SprintExportError } from "./src/errors.js";
export { makeNoise } from "./src/noise.js";
export { makeOpener };

export const openBundle = makeOpener({ ort: ort.InferenceSession ? ort : /** @type {any} */ (ort).default, Tokenizer, defaultProvider: "cpu", toBase, readFile });
