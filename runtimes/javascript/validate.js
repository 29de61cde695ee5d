#!/usr/bin/env node
// What Node draws of a bundle on this machine, and how fast, as a file for `sprint-export report --merge BUNDLE *.json`.

import { access, constants, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { parseArgs } from "node:util";

import { SprintExportError, openBundle } from "./node.js";

const USAGE = "usage: sprint-export-validate BUNDLE --out FILE.json [--runs N] [--label NAME] [--provider NAME] [--threads N]";
const OPTIONS = /** @type {const} */ ({
  out: { type: "string" },
  runs: { type: "string", default: "0" },
  label: { type: "string" },
  provider: { type: "string" },
  threads: { type: "string" },
  help: { type: "boolean", short: "h" },
});

/** An error of whoever typed the command. */
class UsageError extends Error {}

async function main() {
  const { values: asked, positionals } = readArguments();
  if (asked.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const { out } = asked;
  if (positionals.length !== 1 || !out) {
    throw new UsageError(`expected one bundle and --out\n${USAGE}`);
  }
  await access(dirname(out), constants.W_OK);
  const there = await stat(out).catch(() => null);
  if (there && !there.isFile()) {
    throw new UsageError(`${out} is no file; expected one, or a new name`);
  }
  const options = { provider: asked.provider, threads: asked.threads === undefined ? undefined : Number(asked.threads) };
  const pipeline = await openBundle(positionals[0], options);
  try {
    const result = await pipeline.validate({ runs: Number(asked.runs), label: asked.label });
    await writeWhole(out, `${JSON.stringify(result, null, 1)}\n`);
    process.stdout.write(`${out}: ${summarize(result)}\n`);
  } finally {
    await pipeline.close();
  }
}

function readArguments() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(`${/** @type {Error} */ (error).message}\n${USAGE}`);
  }
}

/** A file that is whole or absent. */
async function writeWhole(path, text) {
  const part = `${path}.${process.pid}.part`;
  try {
    await writeFile(part, text);
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
}

function summarize({ rows, prompts, bench }) {
  const find = (name) => rows.find(({ metric, component }) => metric === name && (!component || component === "whole picture"))?.value;
  const worst = `${prompts} pictures compared, the worst ${find("reference_psnr_worst_db").toFixed(1)} dB, at most ${find("reference_largest_difference")} of 255 apart`;
  return bench ? `${worst}; ${bench.runs} timed, p50 ${find("latency_p50_ms").toFixed(1)} ms` : worst;
}

main().catch((error) => {
  if (!(error instanceof SprintExportError || error instanceof UsageError || error?.syscall)) {
    throw error;
  }
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 2;
});
