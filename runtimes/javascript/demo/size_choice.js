// Width and height of the drawing, where the bundle has free ones: multiples of what it says.

const MOST = 4; // times the bundle's own side: more takes a page's memory, not the bundle's
const width = document.getElementById("width");
const height = document.getElementById("height");

/** Offer sizes; `onChange` is called when one is typed. */
export function offerSizes({ size, multiples }, onChange) {
  document.getElementById("size").hidden = false;
  for (const [input, own, step] of [[width, size[1], multiples[1]], [height, size[0], multiples[0]]]) {
    Object.assign(input, { min: String(step), step: String(step), max: String(MOST * own), value: String(own) });
    input.addEventListener("input", onChange);
  }
  document.getElementById("turn").addEventListener("click", () => {
    [width.value, height.value] = [height.value, width.value];
    onChange();
  });
}

/** Fill the form. */
export function writeSize(size) {
  [height.value, width.value] = size.map(String);
}

/** [height, width] of the form.
 * @throws {Error} one cannot be drawn; the text says what can
 */
export function readSize() {
  return [read(height, "height"), read(width, "width")];
}

function read(input, name) {
  if (!input.validity.valid || input.value === "") {
    const { min, max, step } = input;
    throw new Error(`The ${name} is a multiple of ${step}, from ${min} to ${max} pixels.`);
  }
  return Number(input.value);
}
