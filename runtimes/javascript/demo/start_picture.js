// The picture that a drawing starts from, and how much of it changes: the last so many of the steps are run.

import { readPictureFile } from "./picture_files.js";
import { cutPixels, makeCanvas } from "./pixels.js";
import { count } from "./text.js";

const USUAL_CHANGE = 0.6; // share of the steps that are run, as the package has it
const find = (id) => document.getElementById(id);

export class StartPicture {
  #source = null; // canvas
  #wish = USUAL_CHANGE;
  #steps = 1;
  #pixels = null; // of the source in the drawing's size, until it changes

  /**
   * @param {() => void} onChange another picture, or another change
   * @param {() => HTMLCanvasElement} takeShown the picture on the page
   * @param {(least: number) => void} askSteps a picture has no part with as few steps as are chosen
   */
  constructor(onChange, takeShown, askSteps) {
    this.onChange = onChange;
    this.askSteps = askSteps;
    find("start-choose").addEventListener("click", () => find("start-file").click());
    find("start-file").addEventListener("change", ({ target }) => {
      if (target.files[0]) {
        this.setFile(target.files[0]);
      }
      target.value = "";
    });
    find("start-take").addEventListener("click", () => this.#set(copy(takeShown())));
    find("start-remove").addEventListener("click", () => {
      this.#set(null);
      find("start-choose").focus();
    });
    find("strength").addEventListener("input", () => {
      this.#wish = Number(find("strength").value) / this.#steps;
      this.#showStrength();
      this.onChange();
    });
  }

  /** Show it. */
  offer() {
    find("start").hidden = false;
    this.#show();
  }

  /** `{ image, strength }` for a drawing of this size in so many steps, or nothing. */
  read(height, width, steps) {
    this.fit(steps);
    if (this.#source === null || steps < 2) {
      return {};
    }
    if (this.#pixels?.height !== height || this.#pixels?.width !== width) {
      this.#pixels = cutPixels(this.#source, width, height);
    }
    return { image: this.#pixels, strength: this.#countRun() / steps };
  }

  /** Take a picture from a canvas; null: none. Nobody is told. */
  write(canvas, strength) {
    this.#wish = strength;
    this.#put(canvas);
  }

  /** The drawing takes so many steps. */
  fit(steps) {
    this.#steps = steps;
    Object.assign(find("strength"), { max: String(Math.max(steps - 1, 1)), value: String(this.#countRun()), disabled: steps < 3 });
    this.#showStrength();
  }

  /** Take a file's picture; say why where it is none. */
  async setFile(file) {
    try {
      const canvas = await readPictureFile(file, "white");
      this.#set(canvas);
    } catch (error) {
      find("start-note").textContent = error.message;
    }
  }

  #set(canvas) {
    this.#put(canvas);
    if (canvas !== null && this.#steps < 2) {
      this.askSteps(2);
    }
    this.onChange();
  }

  #put(canvas) {
    this.#source = canvas;
    this.#pixels = null;
    find("start-note").textContent = "";
    this.#show();
  }

  /** How many steps are run: at least one, and not all, which would be noise alone. */
  #countRun() {
    return Math.min(Math.max(Math.ceil(this.#wish * this.#steps - 1e-9), 1), Math.max(this.#steps - 1, 1));
  }

  #showStrength() {
    const run = this.#countRun();
    const part = `runs the last ${run === 1 ? "" : `${run} `}of ${count(this.#steps, "step")}`;
    find("strength-text").textContent = this.#steps < 2 ? "with one step the picture has no part" : part;
  }

  #show() {
    const shown = find("start-picture");
    const hasPicture = this.#source !== null;
    for (const id of ["start-picture", "start-remove", "strength-row"]) {
      find(id).hidden = !hasPicture;
    }
    find("start-empty").hidden = hasPicture;
    if (hasPicture) {
      const side = Math.min(this.#source.width, this.#source.height);
      Object.assign(shown, { width: side, height: side });
      shown.getContext("2d").drawImage(this.#source, (side - this.#source.width) / 2, (side - this.#source.height) / 2);
    }
  }
}

function copy(canvas) {
  const made = makeCanvas(canvas.width, canvas.height, "white");
  made.context.drawImage(canvas, 0, 0);
  return made.canvas;
}
