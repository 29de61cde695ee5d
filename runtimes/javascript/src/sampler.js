// The sampler's arithmetic, every result rounded to float32 as numpy rounds it.

import { roundEven } from "./tensors.js";

const round = Math.fround;

/** x before the first step. */
export function start({ start: formula }, noise, s) {
  if (formula === "noise") {
    return Float32Array.from(noise);
  }
  return Float32Array.from(noise, (value) => round(value * round(s)));
}

/** (1 - s) x0 + s noise: x before a later step. */
export function mix(x0, noise, s) {
  const [weight, rest] = [round(s), round(1 - s)];
  return Float32Array.from(x0, (value, i) => round(round(rest * value) + round(weight * noise[i])));
}

/** Values [1, 3, H, W] in [-1, 1] to RGBA, halves to the even neighbour. */
export function toPixels(values, [height, width]) {
  const size = height * width;
  const pixels = new Uint8ClampedArray(size * 4).fill(255);
  for (let i = 0; i < size; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = round(round(values[channel * size + i] * 0.5) + 0.5);
      pixels[4 * i + channel] = roundEven(round(Math.min(Math.max(value, 0), 1) * 255));
    }
  }
  return pixels;
}
