// A tokenizer.json for @huggingface/tokenizers, so that it gives the ids of the Rust library that Python has.
//
// Two of its pieces mean something else there (as of 0.2.0): a table of words forgets its unknown word unless that is given apart,
// and what splits at spaces asks JavaScript's \w and \s, which know the letters of English only and other spaces. Both are said here
// in terms that the two libraries read alike.

import { SprintExportError, describe } from "./errors.js";
import { parseJson } from "./json.js";

const MODELS = ["BPE", "WordLevel", "WordPiece", "Unigram"];
// \w of Rust's regex: https://docs.rs/regex/latest/regex/#perl-character-classes-unicode-friendly
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const SPACE = "\\p{White_Space}";
const SPLITS = {
  Whitespace: { type: "Split", pattern: { Regex: `[${WORD}]+|[^${WORD}${SPACE}]+` }, behavior: "Removed", invert: true },
  WhitespaceSplit: { type: "Split", pattern: { Regex: `${SPACE}+` }, behavior: "Removed", invert: false },
};

/** @typedef {{encode: (text: string) => {ids: number[]}, listUnknown: (text: string) => string[]}} OpenTokenizer */

/** Open a tokenizer.
 * @param {any} Tokenizer the class of @huggingface/tokenizers
 * @param {Uint8Array} bytes of a tokenizer.json
 * @param {string} path its name, for messages
 * @returns {OpenTokenizer}
 * @throws {SprintExportError} it is none, or of a kind that is not known
 */
export function openTokenizer(Tokenizer, bytes, path) {
  let value;
  try {
    value = parseJson(bytes);
  } catch (error) {
    throw new SprintExportError("tokenizer", `${path} is no JSON (${describe(error)}); download the bundle again`, { cause: error });
  }
  if (!MODELS.includes(value?.model?.type)) {
    const found = JSON.stringify(value?.model?.type);
    throw new SprintExportError("tokenizer", `${path} has a model of type ${found}, expected one of ${MODELS.join(", ")}`);
  }
  try {
    const settings = value.model.unk_token == null ? {} : { unk_token: value.model.unk_token };
    const tokenizer = new Tokenizer({ ...value, pre_tokenizer: restate(value.pre_tokenizer) }, settings);
    return { encode: (text) => tokenizer.encode(text), listUnknown: (text) => listUnknown(tokenizer, text) };
  } catch (error) {
    throw new SprintExportError("tokenizer", `${path} cannot be opened (${describe(error)}); export the bundle again`, { cause: error });
  }
}

/** A pre-tokenizer in terms that mean the same in both libraries. */
function restate(splitter) {
  if (splitter?.type === "Sequence") {
    return { ...splitter, pretokenizers: splitter.pretokenizers.map(restate) };
  }
  return (Object.hasOwn(SPLITS, splitter?.type ?? "") && SPLITS[splitter.type]) || splitter;
}

/** Words of a text that stand for the unknown token, touching ones as one, as Python's PromptReader.list_unknown finds them. */
function listUnknown(tokenizer, text) {
  const { model, normalizer, pre_tokenizer: split } = tokenizer;
  const normal = normalizer ? normalizer(text) : text;
  /** @type {[number, number][]} */
  const spans = [];
  let end = 0;
  for (const { piece, isKnown } of (split ? split(normal) : [normal]).flatMap((word) => takeApart(model, word))) {
    const start = Math.max(normal.indexOf(piece, end), end);
    end = start + piece.length;
    if (!isKnown) {
      spans.push([spans.at(-1)?.[1] === start ? /** @type {[number, number]} */ (spans.pop())[0] : start, end]);
    }
  }
  return spans.map(([from, to]) => normal.slice(from, to).trim()).filter(Boolean);
}

/** A word, or where BPE has an unknown token what its merges leave of it, and whether each has ids of its own. */
function takeApart(model, word) {
  const known = model.tokens_to_ids;
  if (typeof model.bpe === "function") {
    const hasUnknown = model.unk_token != null && !model.byte_fallback;
    return hasUnknown ? model.bpe(word).map((piece) => ({ piece, isKnown: known.has(piece) })) : [{ piece: word, isKnown: true }];
  }
  return [{ piece: word, isKnown: model.encode([word]).every((token) => known.has(token) && token !== model.unk_token) }];
}
