// What the comparison with the bundle's reference pictures found, in words.

import { count, milliseconds } from "./text.js";

const result = document.getElementById("check-result");

/** Say that it runs. */
export function showChecking(what = "Drawing the reference pictures") {
  result.textContent = what;
}

/** One line for each picture that came with the bundle. */
export function showCheck({ drawings }) {
  result.replaceChildren(...drawings.map(describe));
}

/** What a result says that was saved under this name. */
export function showSaved({ rows, prompts, bench }, name) {
  const find = (metric, component) => rows.find((row) => row.metric === metric && row.component === component).value;
  const largest = find("reference_largest_difference", "");
  const apart = largest === 0 ? "the same in every pixel" : `at most ${largest} of 255 apart`;
  const timed = `${count(bench.runs, "picture")} timed, half of them below ${milliseconds(find("latency_p50_ms", "whole picture"))} ms`;
  const lines = [`${count(prompts, "picture")} compared: ${apart}. ${timed}.`, `Saved as ${name}. Join results with: sprint-export report --merge BUNDLE *.json`];
  result.replaceChildren(...lines.map((line) => makeLine(line, false)));
}

/** Say why it could not be done. */
export function showCheckFailure(message) {
  result.replaceChildren(makeLine(message, true));
}

function describe({ prompt, seed, steps, largest }) {
  const found = largest === 0 ? "the same in every pixel" : `at most ${largest} of 255 apart`;
  return makeLine(`${count(steps, "step")}, seed ${seed}, \u201c${prompt}\u201d: ${found}`, false);
}

function makeLine(text, isBad) {
  const line = document.createElement("p");
  line.textContent = text;
  line.classList.toggle("differs", isBad);
  return line;
}
