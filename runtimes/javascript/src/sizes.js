// Sizes of pictures: an axis of app.json is a number, a free one ("height"), or a multiple of a free one ("32*height").

import { SprintExportError } from "./errors.js";

const FREE = /^(?:([1-9][0-9]{0,8})\*)?([A-Za-z_][A-Za-z0-9_]{0,63})$/;
const SIDES = ["height", "width"];

/** @typedef {Record<string, number>} Units how many units of each free axis */

/** Whether this is an axis. */
export const isAxis = (axis) => (Number.isSafeInteger(axis) && axis > 0) || (typeof axis === "string" && FREE.test(axis));

/** "32*height" -> [32, "height"]; a number -> [number, ""].
 * @param {number | string} axis
 * @returns {[number, string]}
 */
function readAxis(axis) {
  if (typeof axis === "number") {
    return [axis, ""];
  }
  const [, multiple = "1", name] = /** @type {RegExpExecArray} */ (FREE.exec(axis));
  return [Number(multiple), name];
}

/** A shape with its free axes filled in.
 * @param {readonly (number | string)[]} axes
 * @param {Units} units
 * @returns {number[]}
 * @throws {SprintExportError} a free axis has no units
 */
export function fillAxes(axes, units) {
  return axes.map((axis) => {
    const [multiple, name] = readAxis(axis);
    if (name && !Object.hasOwn(units, name)) {
      throw new SprintExportError("app", `the size of ${JSON.stringify(axis)} is not known from the noise; export the bundle again`);
    }
    return name ? multiple * units[name] : multiple;
  });
}

/** The units of each free axis where a shape is filled to these sizes; null where it cannot be.
 * @param {readonly (number | string)[]} axes
 * @param {readonly number[]} sizes
 * @returns {Units | null}
 */
export function findUnits(axes, sizes) {
  /** @type {Units} */
  const units = {};
  if (axes.length !== sizes.length) {
    return null;
  }
  for (const [place, axis] of axes.entries()) {
    const [multiple, name] = readAxis(axis);
    if (name) {
      units[name] ??= Math.floor(sizes[place] / multiple);
    }
  }
  const fits = Object.values(units).every((count) => count > 0) && fillAxes(axes, units).every((size, place) => size === sizes[place]);
  return fits ? units : null;
}

/** The noise of one step for a picture of so many pixels.
 * @param {any} app
 * @param {number} [height] default: the bundle's own
 * @param {number} [width] likewise
 * @returns {{shape: number[], size: [number, number], units: Units}} shape of the noise, [height, width] of the picture
 * @throws {SprintExportError} that size cannot be drawn; the text names the nearest that can
 */
export function choosePicture(app, height = app.size[0], width = app.size[1]) {
  const [ownHeight, ownWidth] = app.size;
  const own = app.sizes ? /** @type {Units} */ (findUnits(app.sizes.noise, app.noise.shape)) : {};
  if (height === ownHeight && width === ownWidth) {
    return { shape: app.noise.shape, size: [height, width], units: own };
  }
  if (!findMultiples(app)) {
    const found = `height=${height}, width=${width}: this bundle draws ${ownHeight} x ${ownWidth} pixels (height x width) only`;
    throw new SprintExportError("input", `${found}; leave the size out, or export with --dynamic`);
  }
  const units = Object.fromEntries([height, width].map((pixels, place) => countUnits(SIDES[place], app.sizes.picture[place], pixels)));
  return { shape: fillAxes(app.sizes.noise, units), size: [height, width], units };
}

/** Of what height and width are multiples, in pixels; null where pictures have the bundle's own size.
 * @param {any} app
 * @returns {[number, number] | null}
 */
export function findMultiples({ sizes }) {
  if (!sizes?.picture.every((axis) => typeof axis === "string")) {
    return null;
  }
  const [[height], [width]] = sizes.picture.map(readAxis);
  return [height, width];
}

/** [name of the free axis, its units] of so many pixels.
 * @param {string} side
 * @param {string} axis
 * @param {number} pixels
 * @returns {[string, number]}
 */
function countUnits(side, axis, pixels) {
  const [unit, name] = readAxis(axis);
  if (!Number.isSafeInteger(pixels) || pixels <= 0 || pixels % unit) {
    const below = Math.floor(pixels / unit) * unit;
    const nearest = below > 0 ? `${below} and ${below + unit}` : `${unit}`;
    throw new SprintExportError("input", `${side}=${pixels}: expected a positive multiple of ${unit} pixels; the nearest: ${nearest}`);
  }
  return [name, pixels / unit];
}
