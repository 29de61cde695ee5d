// A picture of another size, by Lanczos with the arithmetic of Pillow's `Image.resize` for 8 bits a channel, so that a picture that
// is given here and in Python is the same to the bit (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters):
//
//   weight of source pixel i for target pixel j: L((i + 1/2 - c) / f), c = (j + 1/2) r, r = source / target, f = max(r, 1)
//   L(x) = sinc(x) sinc(x / 3) for |x| < 3; the weights of a target pixel sum to 1, then are rounded to 2^-22
//   first along rows, rounded to 8 bits, then along columns; a direction whose size stays is left out

const REACH = 3;
const ONE = 2 ** 22; // 1 in the weights' fixed point

/** @typedef {{first: number, weights: Int32Array}} Taps source pixels of a target pixel, from `first` on */

/** RGB of another size.
 * @param {Uint8Array} rgb [height, width, 3]
 * @param {[number, number]} from [height, width]
 * @param {[number, number]} to [height, width]
 * @returns {Uint8Array} [height, width, 3]
 */
export function resize(rgb, [height, width], [newHeight, newWidth]) {
  const wide = width === newWidth ? rgb : resample(rgb, { lines: height, step: 3, line: 3 * width }, 3 * newWidth, makeTaps(width, newWidth));
  const row = 3 * newWidth;
  return height === newHeight ? wide : resample(wide, { lines: newWidth, step: row, line: 3 }, 3, makeTaps(height, newHeight));
}

/** Resample all lines in one direction.
 * @param {Uint8Array} source
 * @param {{lines: number, step: number, line: number}} layout how many lines; from a pixel to the next of its line; from a line to the next
 * @param {number} newLine from a line to the next in the target
 * @param {Taps[]} taps one a target pixel
 */
function resample(source, { lines, step, line }, newLine, taps) {
  const target = new Uint8Array(lines * taps.length * 3);
  for (let i = 0; i < lines; i++) {
    for (const [place, { first, weights }] of taps.entries()) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = ONE / 2;
        for (let tap = 0, from = i * line + first * step + channel; tap < weights.length; tap++, from += step) {
          sum += source[from] * weights[tap];
        }
        target[i * newLine + place * step + channel] = Math.min(Math.max(Math.floor(sum / ONE), 0), 255);
      }
    }
  }
  return target;
}

/** The taps of each target pixel.
 * @param {number} size
 * @param {number} newSize
 * @returns {Taps[]}
 */
function makeTaps(size, newSize) {
  const ratio = size / newSize;
  const stretch = Math.max(ratio, 1);
  const reach = REACH * stretch;
  return Array.from({ length: newSize }, (_, place) => {
    const center = (place + 0.5) * ratio;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), size);
    const heights = Array.from({ length: end - first }, (_, i) => lanczos((i + first - center + 0.5) * (1 / stretch)));
    const sum = heights.reduce((one, other) => one + other, 0);
    return { first, weights: Int32Array.from(heights, (value) => Math.trunc((value / sum) * ONE + (value / sum < 0 ? -0.5 : 0.5))) };
  });
}

function lanczos(x) {
  return x >= -REACH && x < REACH ? sinc(x) * sinc(x / REACH) : 0;
}

function sinc(x) {
  const angle = x * Math.PI;
  return angle === 0 ? 1 : Math.sin(angle) / angle;
}
