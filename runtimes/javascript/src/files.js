// A bundle's files, each of the size and sha256 that app.json says.

import { checkApp, isInside } from "./app.js";
import { SprintExportError, describe } from "./errors.js";
import { parseJson } from "./json.js";

const MOST_APP_BYTES = 4 << 20; // of app.json
const MANIFEST = "bundle.json";
const MOST_MANIFEST_BYTES = 16 << 20;

/** Fetch at most `most` bytes.
 * @param {string} url
 * @param {{most: number, bytes?: number, base?: string, signal?: AbortSignal, onBytes?: (done: number) => void}} options `bytes`: how many
 *   there should be, where that is known: a large file is then in memory once
 * @returns {Promise<Uint8Array>}
 * @throws {SprintExportError} it is not there, breaks off, or is larger
 */
export async function fetchFile(url, { most, bytes, signal, onBytes = () => {} }) {
  const fail = (/** @type {string} */ what) => (/** @type {unknown} */ error) => {
    signal?.throwIfAborted();
    throw new SprintExportError("file", `${url} ${what} (${describe(error)})`, { cause: error });
  };
  const response = await fetch(url, { signal }).catch(fail("cannot be fetched"));
  if (!response.ok || !response.body) {
    throw new SprintExportError("file", `${url}: the server answered ${response.status}; does the bundle lie there, whole?`);
  }
  const parts = bytes === undefined ? new Parts() : new Whole(allocate(bytes, url));
  const reader = response.body.getReader();
  const next = () => reader.read().catch(fail(`broke off after ${parts.done} bytes`));
  for (let read = await next(); !read.done; read = await next()) {
    if (parts.done + read.value.length > most) {
      await reader.cancel();
      throw new SprintExportError("file", `${url} has more than the ${most} bytes expected: it was damaged or altered`);
    }
    parts.add(read.value);
    onBytes(parts.done);
  }
  return parts.join();
}

/** Bytes of a number that is not known before. */
class Parts {
  /** @type {Uint8Array[]} */
  #parts = [];
  done = 0;

  add(part) {
    this.#parts.push(part);
    this.done += part.length;
  }

  join() {
    const whole = new Whole(new Uint8Array(this.done));
    this.#parts.forEach((part) => whole.add(part));
    return whole.join();
  }
}

/** Bytes that have their place before they come. */
class Whole {
  done = 0;

  /** @param {Uint8Array} place */
  constructor(place) {
    this.place = place;
  }

  add(part) {
    this.place.set(part, this.done);
    this.done += part.length;
  }

  join() {
    return this.place.subarray(0, this.done);
  }
}

/** An array of so many bytes.
 * @throws {SprintExportError} there is no room for it
 */
export function allocate(bytes, name) {
  try {
    return new Uint8Array(bytes);
  } catch (error) {
    throw new SprintExportError("memory", `${name}: no memory for its ${bytes} bytes (${describe(error)}); close other pages or programs`, { cause: error });
  }
}

/** sha256 of bytes in hexadecimal digits.
 * @param {Uint8Array} bytes
 * @returns {Promise<string>}
 * @throws {SprintExportError} there is no Web Crypto here: the page is neither at https nor at localhost
 */
export async function hash(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new SprintExportError("file", "files cannot be compared with their sha256 here: browsers do that at https and localhost only");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {Uint8Array<ArrayBuffer>} */ (bytes)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The files of one bundle. */
export class Files {
  /**
   * @param {string} base URL of the folder, with a slash at its end
   * @param {{verify: boolean, readFile?: typeof fetchFile, cache?: ReturnType<typeof import("./cache.js").openCache>}} options
   */
  constructor(base, { verify, readFile = fetchFile, cache = null }) {
    this.base = base;
    this.verify = verify;
    this.readFile = readFile;
    this.cache = cache;
    /** @type {Map<string, {path: string, bytes: number, sha256: string}>} */
    this.known = new Map();
    /** @type {string[]} */
    this.notKept = [];
  }

  /** Read and check app.json.
   * @param {AbortSignal} [signal]
   */
  async readApp(signal) {
    const place = `${this.base}app.json`;
    const bytes = await this.readFile(this.#url("app.json"), { most: MOST_APP_BYTES, base: this.base, signal }).catch((error) => {
      const isMissing = error instanceof SprintExportError && /answered 404|ENOENT/.test(error.message);
      const advice = "bundles of --batch, --layout or some networks alone have none";
      throw isMissing ? new SprintExportError(error.code, `${error.message} (${advice})`, { cause: error }) : error;
    });
    let app;
    try {
      app = parseJson(bytes);
    } catch (error) {
      throw new SprintExportError("app", `${place} is no JSON (${describe(error)}); download the bundle again`, { cause: error });
    }
    checkApp(app, place);
    if (this.verify && this.base.startsWith("file:")) {
      await this.#checkNamed(bytes);
    }
    this.known = new Map(app.files.map((file) => [file.path, file]));
    return app;
  }

  /** A file that app.json names, compared with its size and sha256.
   * @param {string} path
   * @param {(done: number) => void} onBytes
   * @param {AbortSignal} [signal]
   * @returns {Promise<Uint8Array>}
   */
  async read(path, onBytes, signal) {
    signal?.throwIfAborted();
    const file = /** @type {{path: string, bytes: number, sha256: string}} */ (this.known.get(path));
    const kept = this.verify ? await this.cache?.get(file) : null; // what is kept is only as good as its hash
    if (kept && kept.length === file.bytes && (await hash(kept)) === file.sha256) {
      onBytes(file.bytes);
      return kept;
    }
    if (kept) {
      await this.cache?.remove(file);
    }
    const bytes = await this.readFile(this.#url(path), { most: file.bytes, bytes: file.bytes, base: this.base, signal, onBytes });
    if (bytes.length !== file.bytes) {
      throw this.#altered(path, `${bytes.length} bytes, expected ${file.bytes}`);
    }
    if (this.verify) {
      const found = await hash(bytes);
      if (found !== file.sha256) {
        throw this.#altered(path, `sha256 ${found}, expected ${file.sha256}`);
      }
      if (this.cache && !(await this.cache.put(file, bytes))) {
        this.notKept.push(path);
      }
    }
    return bytes;
  }

  /** A file of the reference, of at most `most` bytes; what it says is compared, not believed.
   * @param {string} path
   * @param {number} most
   * @param {AbortSignal} [signal]
   */
  readOther(path, most, signal) {
    if (!isInside(path)) {
      throw new SprintExportError("reference", `${JSON.stringify(path)} lies outside the bundle`);
    }
    return this.readFile(this.#url(path), { most, base: this.base, signal });
  }

  /** Where the manifest lies beside it, in a folder of this machine: app.json is the one that it names.
   * @param {Uint8Array} bytes of app.json
   */
  async #checkNamed(bytes) {
    const manifest = await this.readOther(MANIFEST, MOST_MANIFEST_BYTES).catch(() => null);
    if (manifest === null) {
      return; // an app need not ship it
    }
    let named;
    try {
      named = parseJson(manifest).artifacts.find(({ path }) => path === "app.json");
    } catch (error) {
      throw new SprintExportError("file", `${this.base}${MANIFEST} is damaged (${describe(error)}); download the bundle again`, { cause: error });
    }
    if (named?.sha256 !== (await hash(bytes))) {
      throw this.#altered("app.json", `another sha256 than ${MANIFEST} names`);
    }
  }

  #altered(path, what) {
    return new SprintExportError("file", `${this.base}${path} has ${what}: it was damaged or altered; download the bundle again`);
  }

  #url(path) {
    return this.base + path.split("/").map(encodeURIComponent).join("/");
  }
}
