// What is believed of an app.json: only what fits together, within bounds. It comes with the bundle, so it is as untrusted as that.

import { SprintExportError } from "./errors.js";
import { fillAxes, findUnits, isAxis } from "./sizes.js";

const BAD_PATH = /^\/|\\|:|[\u0000-\u001f]|(^|\/)\.{1,2}(\/|$)|\/\/|\/$|^$/;
const MOST_VALUES = 2 ** 28; // of noise, and of a picture
const MOST_STEPS = 1000;
const MOST_PARTS = 64; // stages, graphs of a network, steps of a prompt, ranges of a mask
const MOST_TOKENS = 2 ** 16;
const LATEST_TIME = 2;
const FORMULAS = { start: ["s0*noise", "noise"], start_from_picture: ["(1 - s0)*z + s0*noise"], next: ["(1 - s)*x0 + s*noise"] };
const NOISE = { generator: "philox4x32-10 as241", variance: 1 };
const PICTURE = { layout: "NCHW RGB", rounding: "half to even" };

const isText = (value) => typeof value === "string";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const multiply = (shape) => shape.reduce((product, axis) => product * axis, 1);
const isCounts = (value) => Array.isArray(value) && value.every(isCount);
const STEPS = { // of a prompt, and their fields
  lower: {},
  strip: { characters: isText },
  wrap: { prefix: isText, suffix: isText },
  tokenize: { file: isText },
  cut: { tokens: isCount, keep_last: isCount },
  "refuse longer": { tokens: isCount },
  "check prefix": { ids: isCounts },
  pad: { tokens: isCount, id: isCount },
  drop: { first: isCount },
};

/** Whether a path stays inside the bundle's folder. */
export function isInside(path) {
  return isText(path) && path.length <= 1024 && !BAD_PATH.test(path);
}

/** Check what an app.json says.
 * @param {any} app
 * @param {string} place where it lies, for messages
 * @returns {any} the same
 * @throws {SprintExportError} it does not fit together, or this package does not know what it says
 */
export function checkApp(app, place) {
  const expect = (holds, what, advice = "the file is damaged; download the bundle again") => {
    if (!holds) {
      throw new SprintExportError("app", `${place}: ${what}; ${advice}`);
    }
  };
  expect(app?.format === 1, `format is ${JSON.stringify(app?.format)}, expected 1`, "take another version of this package");
  try {
    checkFiles(app, expect);
    checkNetworks(app, expect);
    checkSampler(app, expect);
    checkSizes(app, expect);
    checkPrompt(app, expect);
  } catch (error) {
    throw error instanceof TypeError ? new SprintExportError("app", `${place}: a part is missing or of another type (${error.message}); the file is damaged`) : error;
  }
  return app;
}

function checkFiles({ files, reference }, expect) {
  for (const file of files) {
    const isGood = isInside(file.path) && isCount(file.bytes) && /^[0-9a-f]{64}$/.test(file.sha256);
    expect(isGood, `files: found ${JSON.stringify(file).slice(0, 200)}, expected a path inside the folder, bytes and sha256`);
  }
  expect(new Set(files.map(({ path }) => path)).size === files.length, "files: a path is named twice");
  expect(reference == null || isInside(reference), `reference: ${JSON.stringify(reference)} lies outside the folder`);
}

function checkNetworks({ files, networks, stages, values }, expect) {
  const known = new Set(files.map(({ path }) => path));
  for (const [name, { graphs }] of Object.entries(networks)) {
    expect(graphs.length > 0 && graphs.length <= MOST_PARTS, `networks: ${name} has ${graphs.length} graphs, expected 1 to ${MOST_PARTS}`);
    for (const graph of graphs) {
      const advice = "this package opens bundles of onnx-* and web-* targets; export for one of them";
      expect(graph.format === "onnx", `networks: ${name} has the format ${JSON.stringify(graph.format)}, expected "onnx"`, advice);
      const missing = [graph.path, ...graph.files].find((path) => !known.has(path));
      expect(missing === undefined && graph.files.includes(graph.path), `networks: ${name} needs ${missing ?? graph.path}, which files does not name`);
      expect([graph.inputs, graph.outputs].every((specs) => Array.isArray(specs) && specs.length > 0), `networks: ${name} has no list of inputs or outputs`);
      const odd = [...graph.inputs, ...graph.outputs].find((spec) => !isText(spec.name) || !isText(spec.dtype) || !spec.shape.every(isAxis));
      expect(odd === undefined, `networks: ${name} has an input or output without name, dtype and shape`);
    }
  }
  expect(stages.length > 0 && stages.length <= MOST_PARTS, `stages: found ${stages.length}, expected 1 to ${MOST_PARTS}`);
  for (const { network, when } of stages) {
    expect(Object.hasOwn(networks, network), `stages: ${JSON.stringify(network)} is no network`);
    expect(["once", "each step"].includes(when), `stages: ${network} runs ${JSON.stringify(when)}, expected "once" or "each step"`, "take a newer version of this package");
  }
  const turns = stages.map(({ when }) => when === "each step");
  expect(turns.slice(turns.indexOf(true), turns.lastIndexOf(true) + 1).every(Boolean), "stages: those of each step do not stand together");
  const named = ["ids", "mask", "state", "picture", ...(turns.includes(true) ? ["denoised"] : [])];
  expect(named.every((name) => isText(values[name])), `values: expected names of ${named.join(", ")}`);
}

function checkSampler({ sampler, noise, picture, size }, expect) {
  const advice = "take a newer version of this package";
  for (const [name, choices] of Object.entries(FORMULAS)) {
    expect(choices.includes(sampler[name]), `sampler: ${name} is ${JSON.stringify(sampler[name])}, expected ${choices.join(" or ")}`, advice);
  }
  for (const [steps, { times, rows }] of Object.entries(sampler.schedules)) {
    const isCounted = /^[1-9][0-9]{0,3}$/.test(steps) && times.length === Number(steps) && rows.length === times.length;
    const isGood = isCounted && rows.every(isCount) && times.every((time) => typeof time === "number" && time > 0 && time <= LATEST_TIME);
    expect(isGood && times.length <= MOST_STEPS, `sampler: the schedule of ${steps.slice(0, 80)} steps has not as many times and rows`);
  }
  expect(Object.hasOwn(sampler.schedules, sampler.default_steps), `sampler: no schedule of ${sampler.default_steps} steps`);
  for (const [part, known, name] of [[noise, NOISE, "noise"], [picture, PICTURE, "picture"]]) {
    for (const [key, value] of Object.entries(known)) {
      expect(part[key] === value, `${name}: ${key} is ${JSON.stringify(part[key])}, expected ${JSON.stringify(value)}`, advice);
    }
  }
  expect(`${picture.range}` === "-1,1", `picture: range is ${JSON.stringify(picture.range)}, expected [-1, 1]`, advice);
  expect([...noise.shape, ...size].every((axis) => isCount(axis) && axis > 0) && size.length === 2, "noise and size: expected numbers above 0");
  const most = Math.max(...Object.keys(sampler.schedules).map(Number));
  expect(multiply(noise.shape) * most <= MOST_VALUES && multiply(size) * 3 <= MOST_VALUES, `more than ${MOST_VALUES} values of noise or picture`);
}

/** Free axes, where there are some: noise and picture of the bundle's own size fill them alike. */
function checkSizes({ sizes, size, noise }, expect) {
  if (sizes == null) {
    return;
  }
  expect([...sizes.noise, ...sizes.picture].every(isAxis) && sizes.picture.length === 2, "sizes: expected axes of noise and picture");
  const units = findUnits(sizes.noise, noise.shape);
  expect(units !== null && `${fillAxes(sizes.picture, units ?? {})}` === `${size}`, `sizes: ${JSON.stringify(sizes)} does not fit the bundle's own size`);
}

function checkPrompt({ prompt, files }, expect) {
  const { tokens, kept } = prompt.mask;
  expect(isCount(tokens) && tokens <= MOST_TOKENS && isCount(prompt.vocabulary), `prompt: found ${JSON.stringify(tokens)} tokens of ${JSON.stringify(prompt.vocabulary)}`);
  const isRange = ([start, stop]) => isCount(start) && isCount(stop) && start < stop && stop <= tokens;
  expect(kept.length <= MOST_PARTS && kept.every(isRange), `prompt: kept is ${JSON.stringify(kept).slice(0, 80)}, expected ranges below ${tokens}`);
  const count = prompt.steps.filter((step) => step.do === "tokenize").length;
  expect(prompt.steps.length <= MOST_PARTS && count === 1, `prompt: found ${count} times "tokenize" in ${prompt.steps.length} steps, expected 1 in ${MOST_PARTS}`);
  for (const step of prompt.steps) {
    const fields = Object.hasOwn(STEPS, step.do) ? STEPS[step.do] : null;
    expect(fields !== null, `prompt: the step ${JSON.stringify(step.do)} is not known`, "take a newer version of this package");
    const wrong = Object.entries(fields ?? {}).find(([field, isGood]) => !isGood(step[field]));
    expect(wrong === undefined, `prompt: ${wrong?.[0]} of ${JSON.stringify(step.do)} is ${JSON.stringify(step[wrong?.[0] ?? ""])?.slice(0, 80)}`);
    if (step.do === "tokenize") {
      expect(files.some(({ path }) => path === step.file), `prompt: files does not name ${JSON.stringify(step.file)}`);
    }
    if (step.do === "pad") {
      expect(step.tokens === tokens, `prompt: padded to ${JSON.stringify(step.tokens)} of ${tokens} tokens`);
    }
  }
}
