// A bundle's files by URL, each of the size and sha256 that app.json says.

const MOST_APP_BYTES = 4 << 20; // of app.json
const BAD_PATH = /^\/|\\|:|[\u0000-\u001f]|(^|\/)\.{1,2}(\/|$)|\/\/|^$/;

/** Whether a path stays inside the bundle's folder. */
export function isInside(path) {
  return typeof path === "string" && path.length <= 1024 && !BAD_PATH.test(path);
}

/** Fetch at most `most` bytes.
 * @param {string} url
 * @param {{most: number, signal?: AbortSignal, onBytes?: (done: number) => void}} options
 * @returns {Promise<Uint8Array>}
 */
export async function fetchFile(url, { most, signal, onBytes = () => {} }) {
  const response = await fetch(url, { signal });
  if (!response.ok) {
    throw new Error(`${url}: the server answered ${response.status}`);
  }
  const parts = [];
  let done = 0;
  const reader = response.body.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    parts.push(read.value);
    done += read.value.length;
    if (done > most) {
      await reader.cancel();
      throw new Error(`${url} has more than the ${most} bytes expected`);
    }
    onBytes(done);
  }
  return join(parts, done);
}

function join(parts, size) {
  const whole = new Uint8Array(size);
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

/** sha256 of bytes in hexadecimal digits.
 * @throws {Error} there is no Web Crypto here: the page is neither at https nor at localhost
 */
export async function hash(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new Error("files cannot be compared with their sha256 here: browsers do that at https and localhost only");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The files of one bundle. */
export class Files {
  /**
   * @param {string} base URL of the folder, with a slash at its end
   * @param {{verify: boolean, signal?: AbortSignal, readFile?: typeof fetchFile}} options
   */
  constructor(base, { verify, signal, readFile = fetchFile }) {
    Object.assign(this, { base, verify, signal, readFile, known: new Map() });
  }

  /** Read and check app.json. */
  async readApp() {
    const app = JSON.parse(new TextDecoder().decode(await this.readFile(this.#url("app.json"), { most: MOST_APP_BYTES, signal: this.signal })));
    if (app?.format !== 1) {
      throw new Error(`${this.base}app.json has format ${app?.format}, expected 1; take another version of this package`);
    }
    const odd = app.files.find(({ path, bytes, sha256 }) => !(isInside(path) && Number.isSafeInteger(bytes) && /^[0-9a-f]{64}$/.test(sha256)));
    if (odd) {
      throw new Error(`${this.base}app.json names a file ${JSON.stringify(odd)}; expected path, bytes and sha256`);
    }
    this.known = new Map(app.files.map((file) => [file.path, file]));
    return app;
  }

  /** A file that app.json names, compared with its size and sha256. */
  async read(path, onBytes) {
    const file = this.known.get(path);
    if (!file) {
      throw new Error(`${this.base}app.json does not name ${path}, which its graphs need`);
    }
    const bytes = await this.readFile(this.#url(path), { most: file.bytes, signal: this.signal, onBytes });
    if (bytes.length !== file.bytes || (this.verify && (await hash(bytes)) !== file.sha256)) {
      throw new Error(`${this.base}${path} is not the file that app.json describes: it was damaged or altered`);
    }
    return bytes;
  }

  /** A file of the reference, of at most `most` bytes; what it says is compared, not believed. */
  readOther(path, most) {
    if (!isInside(path)) {
      throw new Error(`${JSON.stringify(path)} lies outside the bundle`);
    }
    return this.readFile(this.#url(path), { most, signal: this.signal });
  }

  #url(path) {
    return this.base + path.split("/").map(encodeURIComponent).join("/");
  }
}
