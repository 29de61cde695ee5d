// Numbers and sentences as the page shows them.

/** Bytes in MB: `12.3`. */
export const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** Milliseconds with as many digits as they deserve: `3.4`, `128`, `2,310`. */
export function milliseconds(value) {
  return value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

/** `1 step`, `4 steps`. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** A network's name in words: `text_encoder` -> `text encoder`. */
export const words = (name) => name.replaceAll("_", " ");

/** The name that a picture is downloaded under: letters and digits of its prompt, and its seed. */
export const fileName = ({ prompt, seed }) => `${keepLetters(prompt) || "picture"}-${seed}.png`;

/** The name of a result: of the bundle, its target, and the device where it has a name. */
export const resultName = ({ bundle, target, device }) => `${[bundle, target, device].map(keepLetters).filter(Boolean).join("-")}.json`;

function keepLetters(text) {
  const letters = text.normalize("NFKD").toLowerCase().replace(/[^\p{Letter}\p{Number}]+/gu, "-");
  return letters.replace(/^-|-$/g, "").slice(0, 60);
}
