// node mutate_apps.mjs COUNT APP.json...: mutated descriptions are refused by name or drawn from, and nothing else; what else was thrown, as JSON.
import { readFileSync } from "node:fs";

import { checkApp } from "./node_modules/sprint-export/src/app.js";
import { readReference } from "./node_modules/sprint-export/src/compare.js";
import { SprintExportError } from "./node_modules/sprint-export/src/errors.js";
import { Files, hash } from "./node_modules/sprint-export/src/files.js";
import { encodePrompt, listUnknown } from "./node_modules/sprint-export/src/prompt.js";
import { arrangeInputs, findSourceSize, readRequest } from "./node_modules/sprint-export/src/request.js";
import { openTokenizer } from "./node_modules/sprint-export/src/tokenizer.js";

const OTHERS = [null, -1, 0, 1.5, 1e30, 2 ** 31, "x", "", "32*height", "0*height", "__proto__", [], {}, true, [null], ["height"], [1e9, 1e9]];
const DEEP = JSON.parse("[".repeat(60) + "]".repeat(60)); // as deep as files may be
OTHERS.push(DEEP, [DEEP], new Array(100_000).fill(1), new Array(5000).fill({ do: "tokenize", file: "x" }), "x".repeat(100_000), "1e999", "5");
const PIXELS = { data: new Uint8Array(12), width: 2, height: 2 };
const ASKED = [
  {}, { height: 32, width: 96 }, { image: PIXELS, steps: 4 }, { control: PIXELS }, { inputs: { source_image: [1] } },
  { image: PIXELS, height: 64, width: 32, steps: 4, strength: 0.5 },
];
const [count, ...files] = process.argv.slice(2);
const texts = files.map((file) => readFileSync(file, "utf8"));
const tokenizers = texts.map(pretend);
let state = 1;

/** Whatever file is asked for, a tokenizer that gives the ids of the instruction and three more. */
function pretend(text) {
  const { ids = [] } = JSON.parse(text).prompt.steps.find((step) => step.do === "check prefix") ?? {};
  const tokenizer = { encode: () => ({ ids: [...ids, 3, 3, 3] }), listUnknown: () => ["red"] };
  return new Proxy({}, { get: () => tokenizer });
}

/** A whole number below n, the same row of them each time. */
function random(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}

/** Put something else in one place, or nothing. */
function mutate(app) {
  let at = app;
  for (let keys = Object.keys(at); keys.length; keys = Object.keys(at)) {
    const key = keys[random(keys.length)];
    if (at[key] === null || typeof at[key] !== "object" || random(6) === 0) {
      if (random(4) === 0) {
        delete at[key];
      } else {
        at[key] = structuredClone(OTHERS[random(OTHERS.length)]);
      }
      return;
    }
    at = at[key];
  }
}

const found = { drawn: 0, refused: 0, odd: [] };

function attempt(act) {
  try {
    act();
    found.drawn++;
  } catch (error) {
    if (error instanceof SprintExportError) {
      found.refused++;
    } else {
      found.odd.push(error.stack.split("\n").slice(0, 3).join(" "));
    }
  }
}

/** What a draw does before a network runs. */
function prepare(app, asked, tokenizers) {
  const request = readRequest(app, asked);
  const size = asked.control || asked.image ? findSourceSize(app, request.units) : [1, 1];
  encodePrompt(app.prompt, tokenizers, " A red circle");
  listUnknown(app.prompt, tokenizers, " A red circle");
  arrangeInputs(app, request, asked.control ? new Float32Array(3 * size[0] * size[1]) : null);
}

for (let i = 0; i < Number(count); i++) {
  const app = JSON.parse(texts[i % texts.length]);
  for (let k = random(3); k >= 0; k--) {
    mutate(app);
  }
  let isGood = false;
  attempt(() => (isGood = Boolean(checkApp(app, "app.json"))));
  for (const asked of isGood ? ASKED : []) {
    attempt(() => prepare(app, asked, tokenizers[i % texts.length]));
  }
}

/** Text that nests deeper than JavaScript's own stack, in each file of a bundle that is JSON: the code of what is thrown. */
async function readDeep(text) {
  const bytes = new TextEncoder().encode(text);
  const acts = [
    () => new Files("file:///bundle/", { verify: true, readFile: async () => bytes }).readApp(),
    () => readReference({ app: { reference: "reference.json" }, files: { readOther: async () => bytes } }),
    async () => openTokenizer(null, bytes, "tokenizer.json"),
  ];
  return Promise.all(acts.map((act) => act().then(() => "read", (error) => error.code ?? error.stack)));
}

const [deepList, deepObject] = ["[", '{"a":'].map((open) => open.repeat(100_000) + "1" + (open === "[" ? "]" : "}").repeat(100_000));
found.deep = await Promise.all([deepList, deepObject, `{"format": 1, "files": [{"path": ${deepList}}]}`].map(readDeep));

/** app.json with a letter changed, beside a manifest that names it as it was, or none: the code of what is thrown. */
async function readAltered(text, altered, base, hasManifest) {
  const manifest = JSON.stringify({ artifacts: [{ path: "app.json", sha256: await hash(new TextEncoder().encode(text)) }] });
  const readFile = async (url) => {
    if (url.endsWith("bundle.json") && !hasManifest) {
      throw new SprintExportError("file", "it is not there");
    }
    return new TextEncoder().encode(url.endsWith("bundle.json") ? manifest : altered);
  };
  return new Files(base, { verify: true, readFile }).readApp().then(() => "read", (error) => error.code ?? error.stack);
}

const letter = texts[0].replace('"prefix": "', '"prefix": "x');
found.altered = await Promise.all([
  readAltered(texts[0], texts[0], "file:///bundle/", true), readAltered(texts[0], letter, "file:///bundle/", true),
  readAltered(texts[0], letter, "file:///bundle/", false), readAltered(texts[0], letter, "https://example.com/bundle/", true),
]);
found.odd = [...new Set(found.odd)];
process.stdout.write(JSON.stringify(found));
