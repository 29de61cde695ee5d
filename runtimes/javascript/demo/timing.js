// How long the picture took, by network: a figure, a bar and a list.

import { milliseconds, words } from "./text.js";

const COLOURS = 6; // page.css has as many

/** Show `{ total, text_encoder: ..., ... }` in milliseconds; what no network took is the rest: prompt, noise, sampler.
 * @param {object} times
 * @param {string} where what it was drawn on
 */
export function showTiming({ total, ...networks }, where) {
  const shown = Object.entries(networks).filter(([, value]) => Number.isFinite(value));
  const rest = total - shown.reduce((sum, [, value]) => sum + value, 0);
  if (rest >= 0.05) {
    shown.push(["the rest", rest]);
  }
  document.getElementById("total").textContent = milliseconds(total);
  document.getElementById("where").textContent = `on ${where}`;
  document.getElementById("bar").replaceChildren(...shown.map(makeShare));
  document.getElementById("parts").replaceChildren(...shown.flatMap(makeRow));
}

function colour(place) {
  return `part-${Math.min(place + 1, COLOURS)}`;
}

function makeShare([, value], place) {
  const share = document.createElement("span");
  share.className = colour(place);
  share.style.flexGrow = String(value);
  return share;
}

function makeRow([name, value], place) {
  const term = document.createElement("dt");
  term.className = colour(place);
  term.textContent = words(name);
  const figure = document.createElement("dd");
  figure.textContent = `${milliseconds(value)} ms`;
  return [term, figure];
}
