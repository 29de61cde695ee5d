// What is shown in the picture's place until there is one: what is loaded, in bytes, or why it failed.

import { megabytes, words } from "./text.js";

const frame = document.getElementById("frame");
const text = document.getElementById("loading-text");
const bar = document.getElementById("loading-bar");
const bytes = document.getElementById("loading-bytes");
const retry = document.getElementById("retry");

/** Begin to count: `total` bytes are to come. */
export class Loading {
  #done = new Map(); // stage -> bytes

  constructor(total) {
    this.total = total;
    frame.dataset.state = "loading";
    retry.hidden = true;
    text.textContent = "Loading";
    bytes.textContent = "";
    bar.removeAttribute("value");
  }

  /** A stage has this many bytes. */
  tell({ stage, done }) {
    this.#done.set(stage, done);
    const sum = Math.min([...this.#done.values()].reduce((one, other) => one + other, 0), this.total);
    const label = `Loading: ${words(stage)}`;
    if (text.textContent !== label) {
      text.textContent = label; // a screen reader says it; figures below it stay quiet
    }
    bar.value = this.total ? sum / this.total : 0;
    bytes.textContent = `${megabytes(sum)} of ${megabytes(this.total)} MB`;
  }
}

/** The frame shows the picture, dimmed where it is not of what is asked for now. */
export function showPicture(isStale) {
  frame.dataset.state = isStale ? "stale" : "shown";
}

/** Loading failed. */
export function showFailure(message) {
  frame.dataset.state = "failed";
  text.textContent = message;
  bytes.textContent = "";
  retry.hidden = false;
  retry.focus();
}
