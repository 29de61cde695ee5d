// The pad one sketches on, with a finger, a mouse or the keyboard, and how strongly the sketch leads.

import { findEdges } from "./edges.js";
import { readPictureFile } from "./picture_files.js";
import { dropAlpha, findMiddle, makeCanvas } from "./pixels.js";
import { Sketch, chooseLine } from "./sketch.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 1 / 32; // of the pad, for an arrow key; with the Shift key FAR times as far
const FAR = 4;
const find = (id) => document.getElementById(id);
const keepInside = (share) => Math.min(Math.max(share, 0), 1);

export class Pad {
  #sketch = new Sketch();
  #canvas = find("pad");
  #size = [1, 1]; // height and width of the drawing
  #cursor = [0.5, 0.5]; // of the keyboard
  #pointer = null; // that draws
  #isDown = false; // the keyboard's pen
  #pixels = null; // of the sketch in the drawing's size, until it changes

  /**
   * @param {() => void} onChange the sketch, or how strongly it leads, is another
   * @param {() => HTMLCanvasElement} takeShown the picture on the page
   */
  constructor(onChange, takeShown) {
    this.onChange = onChange;
    this.takeShown = takeShown;
    this.#listenToPointer();
    this.#canvas.addEventListener("keydown", (event) => this.#hearKey(event));
    this.#canvas.addEventListener("focus", () => this.#paint());
    this.#canvas.addEventListener("blur", () => this.#liftPen());
    this.#listenToTools();
    new ResizeObserver(() => this.#paint()).observe(this.#canvas);
  }

  /** Show it, for drawings of this size. */
  offer([height, width]) {
    find("sketch").hidden = false;
    document.querySelector("main").dataset.sketch = "";
    this.resize([height, width]);
  }

  /** The drawing's size is another. */
  resize([height, width]) {
    if (`${this.#size}` === `${[height, width]}`) {
      return;
    }
    this.#size = [height, width];
    this.#canvas.style.aspectRatio = `${width} / ${height}`;
    this.#canvas.style[width >= height ? "width" : "height"] = "100%";
    this.#canvas.style[width >= height ? "height" : "width"] = "auto";
    this.#pixels = null;
    this.#paint();
  }

  /** `{ control, controlScale }`, or nothing where nothing is sketched. */
  read() {
    if (this.#sketch.isEmpty) {
      return {};
    }
    this.#pixels ??= this.#makePixels();
    return { control: this.#pixels, controlScale: Number(find("scale").value) };
  }

  /** Take a picture of lines from a canvas, in place of the sketch; null: none. */
  write(canvas, scale) {
    find("scale").value = String(scale);
    this.#showScale();
    if (canvas === null) {
      this.#sketch.clear();
    } else {
      this.#sketch.add({ tool: "picture", canvas });
    }
    this.#change(false);
  }

  /** Take a file's picture of lines; say why where it is none. */
  async setFile(file) {
    try {
      const canvas = await readPictureFile(file, "black");
      const [height, width] = this.#size;
      const [left, top, wide, high] = findMiddle(canvas, width, height);
      const cut = makeCanvas(wide, high, "black");
      cut.context.drawImage(canvas, -left, -top);
      this.#say("");
      this.#sketch.add({ tool: "picture", canvas: cut.canvas });
      this.#change(true);
    } catch (error) {
      this.#say(error.message);
    }
  }

  #makePixels() {
    const [height, width] = this.#size;
    const { canvas, context } = makeCanvas(width, height, "black");
    this.#sketch.paint(context, width, height, chooseLine(width, height));
    return { data: dropAlpha(context.getImageData(0, 0, width, height).data), width, height };
  }

  /** What is sketched is another. */
  #change(isTold) {
    this.#pixels = null;
    this.#paint();
    if (isTold) {
      this.onChange();
    }
  }

  #paint() {
    const { clientWidth, clientHeight } = this.#canvas;
    const [width, height] = [clientWidth, clientHeight].map((side) => Math.max(1, Math.round(side * devicePixelRatio)));
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      Object.assign(this.#canvas, { width, height });
    }
    const context = this.#canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const [, own] = this.#size;
    this.#sketch.paint(context, width, height, chooseLine(...this.#size) * (width / own));
    if (document.activeElement === this.#canvas && this.#canvas.matches(":focus-visible")) {
      this.#paintCursor(context, width, height);
    }
    find("pad-hint").hidden = !this.#sketch.isEmpty;
    find("undo").disabled = !this.#sketch.hasActions;
    find("wipe").disabled = this.#sketch.isEmpty;
  }

  #paintCursor(context, width, height) {
    const [x, y] = [this.#cursor[0] * width, this.#cursor[1] * height];
    const reach = Math.max(width, height) / 40;
    context.strokeStyle = this.#isDown ? "#f0916f" : "#a09b90";
    context.lineWidth = Math.max(1, devicePixelRatio);
    context.beginPath();
    context.moveTo(x - reach, y);
    context.lineTo(x + reach, y);
    context.moveTo(x, y - reach);
    context.lineTo(x, y + reach);
    context.stroke();
  }

  #listenToPointer() {
    const place = ({ offsetX, offsetY }) => [keepInside(offsetX / this.#canvas.clientWidth), keepInside(offsetY / this.#canvas.clientHeight)];
    this.#canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.#pointer !== null) {
        return; // of several fingers the first draws
      }
      this.#liftPen();
      this.#pointer = event.pointerId;
      this.#canvas.setPointerCapture(event.pointerId);
      this.#cursor = place(event);
      this.#begin();
    });
    this.#canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId === this.#pointer) {
        const passed = event.getCoalescedEvents?.() ?? [];
        (passed.length ? passed : [event]).forEach((each) => this.#sketch.extend((this.#cursor = place(each))));
        this.#change(true);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.#canvas.addEventListener(end, (event) => {
        this.#pointer = event.pointerId === this.#pointer ? null : this.#pointer;
      });
    }
  }

  #begin() {
    const tool = document.querySelector("#tools :checked").value;
    this.#sketch.add({ tool, points: [this.#cursor] });
    this.#change(true);
  }

  /** Arrows move the pen, space puts it down and lifts it, Escape lifts it. */
  #hearKey(event) {
    const move = MOVES[event.key];
    if (move) {
      const far = STEP * (event.shiftKey ? FAR : 1);
      this.#cursor = this.#cursor.map((share, axis) => keepInside(share + move[axis] * far));
      if (this.#isDown) {
        this.#sketch.extend(this.#cursor);
        this.#change(true);
      }
    } else if (event.key === " " || event.key === "Enter") {
      this.#isDown = !this.#isDown;
      if (this.#isDown) {
        this.#begin();
      }
    } else if (event.key === "Escape" && this.#isDown) {
      this.#isDown = false;
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      this.#undo();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.#paint();
  }

  #liftPen() {
    this.#isDown = false;
    this.#paint();
  }

  #undo() {
    this.#isDown = false;
    this.#sketch.undo();
    this.#change(true);
  }

  #listenToTools() {
    find("undo").addEventListener("click", () => this.#undo());
    find("wipe").addEventListener("click", () => {
      this.#sketch.clear();
      this.#change(true);
    });
    find("edges").addEventListener("click", () => {
      this.#sketch.add({ tool: "picture", canvas: findEdges(this.takeShown()) });
      this.#change(true);
    });
    find("sketch-choose").addEventListener("click", () => find("sketch-file").click());
    find("sketch-file").addEventListener("change", ({ target }) => {
      if (target.files[0]) {
        this.setFile(target.files[0]);
      }
      target.value = "";
    });
    find("scale").addEventListener("input", () => {
      this.#showScale();
      if (!this.#sketch.isEmpty) {
        this.onChange();
      }
    });
    this.#showScale();
  }

  #showScale() {
    find("scale-text").textContent = Number(find("scale").value).toFixed(2);
  }

  #say(text) {
    find("sketch-note").textContent = text;
  }
}
