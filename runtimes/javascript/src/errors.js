// One error for all that a caller can do something about.

/** What was found, and what to do about it. `code` tells kinds apart without reading the text:
 * "app" (app.json), "file" (missing, damaged or altered), "memory" (there is not enough), "provider", "network" (a graph or what it gave), "input" (an argument),
 * "reference", "tokenizer". An abort is no such error: it is the signal's own reason.
 */
export class SprintExportError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{cause?: unknown}} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = "SprintExportError";
    this.code = code;
  }
}

/** Text of whatever was thrown. */
export function describe(error) {
  return error instanceof Error ? error.message : String(error);
}
