// Picture files that are dropped onto the page or pasted: to the sketch where it is meant, else to the picture to start from.

import { findFile } from "./picture_files.js";

const sketch = document.getElementById("sketch");

/** @typedef {{setFile: (file: File) => Promise<void>}} Taker */

/** Hear of files from now on. A file that nobody takes does not take the page's place.
 * @param {{start: Taker | null, sketch: Taker | null}} takers
 */
export function listenForFiles(takers) {
  const pick = (target) => (sketch.contains(target) ? takers.sketch : null) ?? takers.start ?? takers.sketch;
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) {
      return; // text finds its own way
    }
    event.preventDefault();
    const taker = pick(event.target);
    event.dataTransfer.dropEffect = taker ? "copy" : "none";
    mark(taker === null ? null : taker === takers.sketch ? "sketch" : "start");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) {
      mark(null);
    }
  });
  addEventListener("drop", (event) => {
    if (event.dataTransfer.types.includes("Files")) {
      event.preventDefault();
      mark(null);
      give(pick(event.target), event.dataTransfer);
    }
  });
  addEventListener("paste", (event) => {
    if (findFile(event.clipboardData)) {
      event.preventDefault();
      give(pick(document.activeElement), event.clipboardData);
    }
  });
}

function give(taker, transfer) {
  const file = findFile(transfer);
  if (taker && file) {
    taker.setFile(file);
  }
}

/** Show which place would take what is held over the page. */
function mark(id) {
  for (const place of ["start", "sketch"]) {
    document.getElementById(place).toggleAttribute("data-over", place === id);
  }
}
