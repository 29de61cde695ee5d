// Numbers to tensors and back: float32 outside, whatever type a graph has at its door.

import { SprintExportError } from "./errors.js";

const HalfArray = /** @type {any} */ (globalThis).Float16Array; // in browsers of 2025 and later

const MAKERS = {
  float32: (values) => (values instanceof Float32Array ? values : Float32Array.from(values, Number)),
  float16: (values) => (HalfArray ? HalfArray.from(values, Number) : Uint16Array.from(values, encodeHalf)),
  int64: (values) => (values instanceof BigInt64Array ? values : BigInt64Array.from(values, BigInt)),
  int32: (values) => Int32Array.from(values, Number),
  bool: (values) => Uint8Array.from(values, (value) => Number(value !== 0n && value !== 0)),
};

/** A tensor of the type that a graph reads.
 * @param {any} ort
 * @param {{name: string, dtype: string}} spec
 * @param {ArrayLike<number> | ArrayLike<bigint>} values
 * @param {readonly number[]} dims
 */
export function makeTensor(ort, { name, dtype }, values, dims) {
  if (!Object.hasOwn(MAKERS, dtype)) {
    throw new SprintExportError("app", `input ${name} is of type ${dtype}, expected one of ${Object.keys(MAKERS).join(", ")}`);
  }
  return new ort.Tensor(dtype, MAKERS[dtype](values), dims);
}

/** A tensor's values as numbers; those of 16 bits come as Uint16Array where there is no Float16Array. */
export function toFloats({ type, data }) {
  if (type !== "float16") {
    return data;
  }
  return data instanceof Uint16Array ? Float32Array.from(data, decodeHalf) : Float32Array.from(data);
}

/** Bits of the nearest half; ties go to the even one. */
export function encodeHalf(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (!(size < 65520)) {
    return sign | (size === size ? 0x7c00 : 0x7e00);
  }
  const exponent = size < 2 ** -14 ? -14 : Math.floor(Math.log2(size)) - (size < 2 ** Math.floor(Math.log2(size)) ? 1 : 0);
  const units = roundEven(size / 2 ** (exponent - 10)); // 1024 to 2048 of a normal number, below 1024 of a smaller one
  return sign | (units + ((exponent + 14) << 10));
}

/** The value of a half's bits. */
export function decodeHalf(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) {
    return fraction ? NaN : sign * Infinity;
  }
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

/** The nearest whole number, halves to the even one. */
export function roundEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
