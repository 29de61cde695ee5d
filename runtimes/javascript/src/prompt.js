// A prompt's way to token ids and mask, by the steps that app.json lists; each says what it does in its own fields.

import { SprintExportError } from "./errors.js";

/** @typedef {{ids: BigInt64Array, mask: BigInt64Array}} EncodedPrompt */

const actions = {
  lower: (state) => (state.text = state.text.toLowerCase()),
  strip: (state, { characters }) => (state.text = strip(state.text, new Set(characters))),
  wrap: (state, { prefix, suffix }) => (state.text = prefix + state.text + suffix),
  tokenize: (state, { file }, tokenizers) => (state.ids = [...tokenizers[file].encode(state.text).ids]),
  cut: (state, { tokens, keep_last: last }) => {
    if (state.ids.length > tokens) {
      state.ids = [...state.ids.slice(0, tokens - last), ...state.ids.slice(state.ids.length - last)];
    }
  },
  "refuse longer": (state, { tokens }) => {
    if (state.ids.length > tokens) {
      throw new SprintExportError("input", `the prompt has ${state.ids.length} tokens, expected at most ${tokens}; make it shorter`);
    }
  },
  "check prefix": (state, { ids }) => {
    if (ids.some((id, place) => state.ids[place] !== id)) {
      throw new SprintExportError("input", "the tokenizer joins the prompt to the instruction before it; begin the prompt with another character");
    }
  },
  pad: (state, { tokens, id }) => {
    state.padding = Math.max(0, tokens - state.ids.length);
    state.ids = [...state.ids, ...new Array(state.padding).fill(id)];
  },
  drop: (state, { first }) => (state.ids = state.ids.slice(first)),
};

/** Prompt to ids and mask.
 * @param {any} plan app.json's `prompt`
 * @param {Record<string, {encode: (text: string) => {ids: number[]}}>} tokenizers by the path of their file
 * @param {string} prompt
 * @returns {EncodedPrompt} ids int64 [tokens less the prefix], mask int64 [kept positions]
 * @throws {SprintExportError} it is too long, or joins the text before it
 */
export function encodePrompt(plan, tokenizers, prompt) {
  checkText(prompt);
  /** @type {{text: string, ids: any[], padding: number}} */
  const state = { text: prompt, ids: [], padding: 0 };
  for (const step of plan.steps) {
    if (!Object.hasOwn(actions, step.do)) {
      throw new SprintExportError("app", `app.json: the prompt step ${JSON.stringify(step.do)} is not known; take a newer version of this package`);
    }
    actions[step.do](state, step, tokenizers);
  }
  if (state.ids.length > plan.mask.tokens) {
    throw new SprintExportError("app", `app.json: its steps leave ${state.ids.length} ids of ${plan.mask.tokens}`);
  }
  const odd = state.ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < plan.vocabulary));
  if (odd !== undefined || state.ids.includes(undefined)) {
    throw new SprintExportError("tokenizer", `the tokenizer gave the id ${odd}; the text encoder knows ${plan.vocabulary}`);
  }
  const real = plan.mask.tokens - state.padding;
  const mask = plan.mask.kept.flatMap(([start, stop]) => Array.from({ length: stop - start }, (_, i) => BigInt(start + i < real)));
  return { ids: BigInt64Array.from(state.ids, BigInt), mask: BigInt64Array.from(mask) };
}

/** Words of a prompt that the tokenizer does not know: its unknown token stands for them.
 * @param {any} plan app.json's `prompt`
 * @param {Record<string, {listUnknown: (text: string) => string[]}>} tokenizers by the path of their file
 * @param {string} prompt
 * @returns {string[]} each once, in order
 */
export function listUnknown(plan, tokenizers, prompt) {
  checkText(prompt);
  const state = { text: prompt };
  const found = [];
  for (const step of plan.steps) {
    if (step.do === "lower" || step.do === "strip") {
      actions[step.do](state, step);
    } else if (step.do === "tokenize") {
      found.push(...tokenizers[step.file].listUnknown(state.text));
    }
  }
  return [...new Set(found)];
}

function checkText(prompt) {
  if (typeof prompt !== "string" || hasLoneSurrogate(prompt)) {
    throw new SprintExportError("input", `prompt ${JSON.stringify(prompt)?.slice(0, 80)} is no Unicode text`);
  }
}

function strip(text, characters) {
  let [start, stop] = [0, text.length];
  while (start < stop && characters.has(text[start])) {
    start++;
  }
  while (stop > start && characters.has(text[stop - 1])) {
    stop--;
  }
  return text.slice(start, stop);
}

const hasLoneSurrogate = (text) => /[\ud800-\udfff]/u.test(text);
