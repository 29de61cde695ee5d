// A tokenizer.json for @huggingface/tokenizers, so that it gives the ids of the Rust library that Python has.
//
// Two of its pieces mean something else there (as of 0.2.0): a table of words forgets its unknown word unless that is given apart,
// and what splits at spaces asks JavaScript's \w and \s, which know the letters of English only and other spaces. Both are said here
// in terms that the two libraries read alike.

import { SprintExportError, describe } from "./errors.js";

const MODELS = ["BPE", "WordLevel", "WordPiece", "Unigram"];
// \w of Rust's regex: https://docs.rs/regex/latest/regex/#perl-character-classes-unicode-friendly
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const SPACE = "\\p{White_Space}";
const SPLITS = {
  Whitespace: { type: "Split", pattern: { Regex: `[${WORD}]+|[^${WORD}${SPACE}]+` }, behavior: "Removed", invert: true },
  WhitespaceSplit: { type: "Split", pattern: { Regex: `${SPACE}+` }, behavior: "Removed", invert: false },
};

/** Open a tokenizer.
 * @param {any} Tokenizer the class of @huggingface/tokenizers
 * @param {Uint8Array} bytes of a tokenizer.json
 * @param {string} path its name, for messages
 * @returns {{encode: (text: string) => {ids: number[]}}}
 * @throws {SprintExportError} it is none, or of a kind that is not known
 */
export function openTokenizer(Tokenizer, bytes, path) {
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new SprintExportError("tokenizer", `${path} is no JSON (${describe(error)}); download the bundle again`, { cause: error });
  }
  if (!MODELS.includes(value?.model?.type)) {
    const found = JSON.stringify(value?.model?.type);
    throw new SprintExportError("tokenizer", `${path} has a model of type ${found}, expected one of ${MODELS.join(", ")}`);
  }
  try {
    const settings = value.model.unk_token == null ? {} : { unk_token: value.model.unk_token };
    return new Tokenizer({ ...value, pre_tokenizer: restate(value.pre_tokenizer) }, settings);
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
