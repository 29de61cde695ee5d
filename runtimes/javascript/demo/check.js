// What the comparison with the bundle's reference pictures found, in words.

import { count } from "./text.js";

const result = document.getElementById("check-result");

/** Say that it runs. */
export function showChecking() {
  result.textContent = "Drawing the reference pictures";
}

/** One line for each picture that came with the bundle. */
export function showCheck({ drawings }) {
  result.replaceChildren(...drawings.map(describe));
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
