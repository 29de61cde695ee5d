// What this device draws and how fast, as the JSON that `sprint-export report --merge BUNDLE *.json` joins: a report.json of format 2
// with `kind`, `identity`, `label`, ... beside its rows (docs/on_the_device.md). Verdicts are taken where results are joined.

import { compareDrawing, readReference } from "./compare.js";
import { SprintExportError, describe } from "./errors.js";
import { hash } from "./files.js";
import { parseJson } from "./json.js";
import { VERSION, countThreads, describeAdapter, findRuntime } from "./machine.js";
import { refuseUnknown } from "./request.js";

const MANIFEST = "bundle.json";
const MOST_MANIFEST_BYTES = 64 << 20;
const LONGEST_LABEL = 200;
const MOST_RUNS = 10_000;
const WHOLE = "whole picture";
const PERCENTS = [50, 90, 99];
const OPTIONS = ["runs", "label", "onProgress", "signal"];

/** Draw all that `reference/` holds, compare, and time pictures where that is asked for.
 * @param {any} pipeline
 * @param {import("../index.d.ts").ValidateOptions} [options]
 * @returns {Promise<import("../index.d.ts").DeviceResult>}
 * @throws {SprintExportError} the bundle has no reference or manifest, or pictures cannot be decoded here
 */
export async function validate(pipeline, options = {}) {
  refuseUnknown("validate", options, OPTIONS);
  const { runs = 0, label = "", onProgress = () => {}, signal } = options;
  checkOptions(runs, label);
  const identity = await findIdentity(pipeline.files, signal);
  const { drawings, further } = await readReference(pipeline, signal);
  const all = [...drawings, ...further];
  const began = performance.now();
  const checks = [];
  for (const drawing of all) {
    onProgress({ what: "reference", done: checks.length, total: all.length });
    checks.push(await compareDrawing(pipeline, drawing, signal));
  }
  refuseUncompared(checks);
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  const timed = await time(pipeline, drawings[0].prompt, runs, { onProgress, signal });
  return { ...describeReport(pipeline, checks, timed, seconds), ...(await describeDevice(pipeline, { identity, label, checks, runs })) };
}

function checkOptions(runs, label) {
  if (!Number.isInteger(runs) || runs < 0 || runs > MOST_RUNS) {
    throw new SprintExportError("input", `runs=${runs}: expected 0 to ${MOST_RUNS} pictures to time`);
  }
  if (typeof label !== "string" || label.length > LONGEST_LABEL) {
    throw new SprintExportError("input", `label: expected a text of at most ${LONGEST_LABEL} letters, found ${label?.length}`);
  }
}

function refuseUncompared(checks) {
  if (checks.some(({ largest }) => largest === null)) {
    throw new SprintExportError("reference", "pictures differ from the reference's, which are not decoded here; hand decodePicture to makeOpener");
  }
}

/** What says which bundle this is, equal for copies: sha256 of its key and of every file that no device has a part in. */
async function findIdentity(files, signal) {
  const bytes = await files.readOther(MANIFEST, MOST_MANIFEST_BYTES, signal);
  try {
    const { key, artifacts } = parseJson(bytes);
    const own = artifacts.filter(({ device, kind }) => device === null && kind !== "app").map(({ path, sha256 }) => [path, sha256]);
    own.sort(([one], [other]) => (one < other ? -1 : Number(one > other)));
    return await hash(new TextEncoder().encode(toAscii(JSON.stringify({ files: own, key }))));
  } catch (error) {
    throw new SprintExportError("file", `${MANIFEST} is damaged (${describe(error)}); download the bundle again`, { cause: error });
  }
}

/** JSON in ASCII, as Python writes it. */
const toAscii = (json) => json.replace(/[^\x20-\x7e]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Milliseconds of pictures, one after the other: of the whole, and of each network with its steps together. */
async function time(pipeline, prompt, runs, { onProgress, signal }) {
  const found = [];
  for (let seed = 0; seed < runs; seed++) {
    onProgress({ what: "timed", done: seed, total: runs });
    found.push((await pipeline.draw(prompt, { seed, signal })).milliseconds);
  }
  return found;
}

function describeReport({ app, description, machine }, checks, timed, seconds) {
  return {
    format: /** @type {const} */ (2),
    bundle: app.name,
    target: app.target,
    runtime: description,
    machine: machine.name.slice(0, 1000),
    prompts: checks.length,
    rows: [...listRows(checks), ...listTimes(timed)],
    seconds,
    pictures: checks.map(({ prompt, psnr_db: psnr, largest }, place) => ({
      place, prompt, figures: { reference_psnr_db: psnr, largest_difference: largest }, flipped: [],
    })),
    blocks: [],
    unchecked: listUnchecked(checks.length, timed.length),
  };
}

async function describeDevice({ ort, machine, place }, { identity, label, checks, runs }) {
  const { library, version } = findRuntime(ort);
  const threads = countThreads(ort, place);
  const device = place.provider === "webgpu" ? (await describeAdapter(place.provider)) || "WebGPU" : machine.name.slice(0, 1000);
  const conditions = { protocol: "own", runs, warm_up: checks.length, batch: 1, disturbed: null, processors: machine.processors, threads };
  return {
    kind: /** @type {const} */ ("device result"),
    identity,
    label: label || machine.name.slice(0, LONGEST_LABEL),
    provider: place.provider,
    driver: await describeAdapter(place.provider),
    versions: { "sprint-export (JavaScript)": VERSION, [library]: version, ...machine.versions },
    checks,
    bench: runs ? { ...conditions, replayed: false, launches: "not recorded", device } : null,
  };
}

function makeRow(metric, value, unit, component = "", note = "") {
  return { metric, value, unit, component, limit: null, verdict: null, note, interval: null, needed: null };
}

/** As Python's validate/against_reference.py has them. */
function listRows(checks) {
  const psnr = checks.map((check) => check.psnr_db);
  const stages = checks.flatMap((check) => check.stages);
  const same = stages.filter((stage) => stage.is_same).length;
  const others = checks.filter(({ begins }) => ["ids", "mask", "noise"].includes(begins)).length;
  const begins = [...new Set(checks.map((check) => check.begins).filter(Boolean))].sort();
  const where = begins.length ? `; others from ${begins.join(", ")} on` : "";
  const count = checks.length === 1 ? "1 picture" : `${checks.length} pictures`;
  const mean = psnr.reduce((sum, value) => sum + value, 0) / psnr.length;
  return [
    makeRow("reference_psnr_db", mean, "dB", "", `drawn here vs reference/, mean over ${count}`),
    makeRow("reference_psnr_worst_db", Math.min(...psnr), "dB", "", "the worst picture"),
    makeRow("reference_largest_difference", Math.max(...checks.map(({ largest }) => largest)), "of 255", "", "of two pixels' values"),
    makeRow("reference_same_percent", stages.length ? (100 * same) / stages.length : 0, "%", "", `${same} of ${stages.length} calls of networks equal to the bit${where}`),
    makeRow("reference_other_inputs", others, "pictures", "", "whose token ids, mask or noise are not the reference's"),
  ];
}

function listTimes(timed) {
  if (!timed.length) {
    return [];
  }
  const networks = Object.keys(timed[0]).filter((name) => name !== "total");
  const note = `of ${timed.length} drawings; a network's steps together`;
  const rows = [...networks, "total"].flatMap((name) =>
    PERCENTS.map((percent) => {
      const value = findQuantile(timed.map((times) => times[name]), percent / 100);
      return makeRow(`latency_p${percent}_ms`, value, "ms", name === "total" ? WHOLE : name, note);
    }),
  );
  const peak = globalThis.process?.resourceUsage?.().maxRSS; // kibibytes; Node's own
  return peak ? [...rows, makeRow("peak_memory_mb", (peak * 1024) / 1e6, "MB", WHOLE, "of the whole process, with what compared the reference")] : rows;
}

/** The value that so large a share of them is below, between two of them where it falls there. */
function findQuantile(values, share) {
  const ordered = values.toSorted((one, other) => one - other);
  const place = share * (ordered.length - 1);
  const [below, above] = [ordered[Math.floor(place)], ordered[Math.ceil(place)]];
  return below + (above - below) * (place - Math.floor(place));
}

function listUnchecked(drawn, runs) {
  return [
    "PyTorch was not run: how far the bundle is from the student says the report that was made with it",
    `${drawn === 1 ? "1 picture was" : `${drawn} pictures were`} drawn; a validation beside PyTorch draws as many as its gates take`,
    ...(runs ? ["times have no interval: the page or program beside it may have waited for processors, which it cannot see"] : ["nothing was timed: give runs"]),
  ];
}
