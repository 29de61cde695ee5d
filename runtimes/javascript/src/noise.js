// Noise of a seed: the same float32 bits as in Python and C++ (src/sprint_export/noise.py says how and why).
//
//   words  Philox4x32-10, key = the seed's two halves, counter = (n, n >> 32, 0, 0)   u = (word + 1/2) / 2^32
//   z      Wichura's AS 241 in float64, its logarithm by a series: only + - * / and the square root, which round in one way

import { SprintExportError } from "./errors.js";

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57];
const KEY_STEPS = [0x9e3779b9, 0xbb67ae85];
const ROUNDS = 10;
const TWO_32 = 2 ** 32;
const SEEDS = 1n << 64n;

const MIDDLE_A = [
  2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
  13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080,
];
const MIDDLE_B = [
  5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
  5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1,
];
const TAIL_C = [
  7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
  3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734,
];
const TAIL_D = [
  1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 1.4810397642748007459e-1,
  6.8976733498510000455e-1, 1.6763848301838038494, 2.05319162663775882187, 1,
];
const LOG_SERIES = [23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1].map((k) => 1 / k);
const LN_2 = 0.6931471805599453;
const SQRT_HALF = 0.7071067811865476;

/** The first `count` values of a seed's stream.
 * @param {number | bigint} seed a whole number from 0 to 2^64 - 1; as a number up to 2^53 - 1
 * @param {number} count
 * @returns {Float32Array} [count]
 * @throws {SprintExportError} it is none
 */
export function makeNoise(seed, count) {
  const key = readSeed(seed);
  const values = new Float32Array(count);
  const words = new Uint32Array(4);
  for (let start = 0, block = 0; start < count; start += 4, block++) {
    philox(words, block % TWO_32, Math.floor(block / TWO_32), key);
    for (let i = 0; i < 4 && start + i < count; i++) {
      values[start + i] = findQuantile((words[i] + 0.5) / TWO_32);
    }
  }
  return values;
}

/** @returns {[number, number]} low and high half */
function readSeed(seed) {
  const isWhole = typeof seed === "bigint" || Number.isSafeInteger(seed);
  const whole = isWhole ? BigInt(seed) : -1n;
  if (whole < 0n || whole >= SEEDS) {
    throw new SprintExportError("input", `seed ${seed}: expected a whole number from 0 to 2^64 - 1, above 2^53 - 1 as a BigInt`);
  }
  return [Number(whole & 0xffffffffn), Number(whole >> 32n)];
}

/** The upper 32 bits of a product of two words. */
function high(a, b) {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = Math.floor((aLow * bLow) / 65536) + ((aHigh * bLow) % 65536) + ((aLow * bHigh) % 65536);
  return aHigh * bHigh + Math.floor((aHigh * bLow) / 65536) + Math.floor((aLow * bHigh) / 65536) + Math.floor(middle / 65536);
}

/** Ten rounds on the counter (low, high, 0, 0), into `words`. */
export function philox(words, low, highWord, [firstKey, secondKey]) {
  let [a, b, c, d] = [low, highWord, 0, 0];
  let [first, second] = [firstKey, secondKey];
  for (let round = 0; round < ROUNDS; round++) {
    const next = [(high(c, MULTIPLIERS[1]) ^ b ^ first) >>> 0, Math.imul(c, MULTIPLIERS[1]) >>> 0];
    [c, d] = [(high(a, MULTIPLIERS[0]) ^ d ^ second) >>> 0, Math.imul(a, MULTIPLIERS[0]) >>> 0];
    [a, b] = next;
    first = (first + KEY_STEPS[0]) >>> 0;
    second = (second + KEY_STEPS[1]) >>> 0;
  }
  words.set([a, b, c, d]);
}

/** The normal quantile of u, 2^-33 to 1 - 2^-33. */
function findQuantile(u) {
  const offset = u - 0.5;
  if (Math.abs(offset) <= 0.425) {
    const r = 0.180625 - offset * offset;
    return (offset * horner(MIDDLE_A, r)) / horner(MIDDLE_B, r);
  }
  const r = Math.sqrt(-logarithm(offset < 0 ? u : 1 - u)) - 1.6;
  const tail = horner(TAIL_C, r) / horner(TAIL_D, r);
  return offset < 0 ? -tail : tail;
}

const bits = new DataView(new ArrayBuffer(8));

/** ln x, x in (0, 1/2): m 2^e with m in [sqrt(1/2), sqrt(2)). */
function logarithm(x) {
  bits.setFloat64(0, x);
  let exponent = ((bits.getUint16(0) >>> 4) & 0x7ff) - 1022;
  bits.setUint16(0, (bits.getUint16(0) & 0x800f) | (1022 << 4));
  let m = bits.getFloat64(0);
  if (m < SQRT_HALF) {
    m *= 2;
    exponent -= 1;
  }
  const f = (m - 1) / (m + 1);
  return exponent * LN_2 + 2 * f * horner(LOG_SERIES, f * f);
}

function horner(coefficients, x) {
  let total = coefficients[0];
  for (let i = 1; i < coefficients.length; i++) {
    total = total * x + coefficients[i];
  }
  return total;
}
