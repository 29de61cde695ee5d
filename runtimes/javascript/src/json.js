// JSON of unknown origin: UTF-8, and not nested deeper than any file of a bundle; printing or comparing it would take as much stack.

const DEEPEST = 64; // of lists and objects within each other
const [QUOTE, ESCAPE, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = '"\\[]{}'.split("").map((letter) => letter.charCodeAt(0));

/** The value of a file's bytes.
 * @param {Uint8Array} bytes
 * @returns {any}
 * @throws {Error} it is no JSON, no UTF-8, or nested too deep
 */
export function parseJson(bytes) {
  checkDepth(bytes);
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}

/** @param {Uint8Array} bytes */
function checkDepth(bytes) {
  let [depth, isText] = [0, false];
  for (let place = 0; place < bytes.length; place++) {
    const byte = bytes[place];
    if (isText && byte === ESCAPE) {
      place++;
    } else if (byte === QUOTE) {
      isText = !isText;
    } else if (!isText && (byte === OPEN_LIST || byte === OPEN_OBJECT)) {
      depth++;
    } else if (!isText && (byte === CLOSE_LIST || byte === CLOSE_OBJECT)) {
      depth--;
    }
    if (depth > DEEPEST) {
      throw new SyntaxError("it is nested too deep");
    }
  }
}
