// What leads a drawing beside its prompt, where the bundle has it: a picture to start from, a sketch, a size.

import { listenForFiles } from "./given_files.js";
import { Pad } from "./pad.js";
import { digestPixels, packPixels, unpackPixels } from "./pixels.js";
import { offerSizes, readSize, writeSize } from "./size_choice.js";
import { StartPicture } from "./start_picture.js";

const PLAIN = { image: null, strength: 0.6, control: null, controlScale: 1 };

/** @typedef {{height?: number, width?: number, image?: object, strength?: number, control?: object, controlScale?: number}} Guide
 *   as the package's `draw` takes them */

export class Guides {
  #abilities = null;
  #start = null;
  #pad = null;

  /**
   * @param {{onChange: () => void, onSketch: () => void, takeShown: () => HTMLCanvasElement, askSteps: (least: number) => void}} page
   *   `onSketch` is called while one sketches, many times a second
   */
  constructor(page) {
    this.page = page;
  }

  /** Offer what the bundle has. */
  offer(abilities) {
    this.#abilities = abilities;
    const { onChange, onSketch, takeShown, askSteps } = this.page;
    if (abilities.multiples) {
      offerSizes(abilities, onChange);
    }
    if (abilities.image) {
      this.#start = new StartPicture(onChange, takeShown, askSteps);
      this.#start.offer();
    }
    if (abilities.control) {
      this.#pad = new Pad(onSketch, takeShown);
      this.#pad.offer(abilities.size);
    }
    listenForFiles({ start: this.#start, sketch: this.#pad });
  }

  /** What leads a drawing in so many steps.
   * @returns {Guide}
   * @throws {Error} the size cannot be drawn
   */
  read(steps) {
    const { multiples, size } = this.#abilities;
    const [height, width] = multiples ? readSize() : size;
    this.#pad?.resize([height, width]);
    return { ...(multiples ? { height, width } : {}), ...this.#start?.read(height, width, steps), ...this.#pad?.read() };
  }

  /** Fill the form from what was kept, or from an address. */
  async write({ height, width, image, strength, control, controlScale } = PLAIN) {
    const { multiples, size } = this.#abilities;
    if (multiples) {
      writeSize([height ?? size[0], width ?? size[1]]);
    }
    this.#start?.write(image ? await unpackPixels(image) : null, strength ?? PLAIN.strength);
    this.#pad?.write(control ? await unpackPixels(control) : null, controlScale ?? PLAIN.controlScale);
  }

  /** Whether a size is not the bundle's own. */
  isOtherSize({ height, width }) {
    return height !== undefined && `${[height, width]}` !== `${this.#abilities.size}`;
  }
}

/** What tells two guides apart, as text; "" where nothing leads but the prompt. */
export function nameGuide({ height, width, image, strength, control, controlScale }) {
  const parts = {
    ...(height && { height, width }),
    ...(image && { image: digestPixels(image), strength }),
    ...(control && { control: digestPixels(control), controlScale }),
  };
  return Object.keys(parts).length ? JSON.stringify(parts) : "";
}

/** A guide to keep: its pictures as PNG. */
export async function packGuide({ image, control, ...rest }) {
  return { ...rest, ...(image && { image: await packPixels(image) }), ...(control && { control: await packPixels(control) }) };
}

/** What pictures led, in words behind the seed and the steps. */
export function describeGuide({ image, control }) {
  const words = [image && "from a picture", control && "with a sketch"];
  return words.filter(Boolean).map((text) => `, ${text}`).join("");
}
