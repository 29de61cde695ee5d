// Files of a folder, for Node: regular ones that lie in it, not behind a link.

import { open, realpath } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { SprintExportError, describe } from "./errors.js";
import { allocate, fetchFile } from "./files.js";

const CHUNK = 16 << 20; // bytes between two calls of onBytes

/** A folder's path or URL as a URL with a slash at its end.
 * @param {string | URL} folder
 */
export function toBase(folder) {
  const isUrl = folder instanceof URL || /^(https?|file):/i.test(folder);
  const { href } = isUrl ? new URL(folder) : pathToFileURL(String(folder));
  return href.endsWith("/") ? href : `${href}/`;
}

/** Read a file of either kind of base.
 * @type {typeof fetchFile}
 */
export async function readFile(url, options) {
  return url.startsWith("file:") ? readPath(fileURLToPath(url), options) : fetchFile(url, options);
}

/** @param {string} path
 * @param {{most: number, base?: string, signal?: AbortSignal, onBytes?: (done: number) => void}} options
 */
async function readPath(path, { base, most, signal, onBytes = () => {} }) {
  const refuse = (/** @type {string} */ what, /** @type {unknown} */ cause = undefined) => new SprintExportError("file", `${path} ${what}`, { cause });
  await refuseLink(path, base, refuse);
  const file = await open(path, "r").catch((error) => {
    throw refuse(`cannot be opened (${describe(error)}); is the bundle whole?`, error);
  });
  try {
    const found = await file.stat();
    if (!found.isFile() || found.size > most) {
      throw refuse(found.isFile() ? `has ${found.size} bytes, expected at most ${most}: it was damaged or altered` : "is no regular file");
    }
    const bytes = allocate(found.size, path);
    let done = 0;
    while (done < bytes.length) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(bytes, done, Math.min(CHUNK, bytes.length - done), done);
      if (!bytesRead) {
        throw refuse(`ended after ${done} of ${bytes.length} bytes`);
      }
      done += bytesRead;
      onBytes(done);
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** The folder may lie behind a link, its files may not.
 * @param {string} path
 * @param {string | undefined} base
 * @param {(what: string, cause?: unknown) => Error} refuse
 */
async function refuseLink(path, base, refuse) {
  const folder = fileURLToPath(/** @type {string} */ (base));
  const [root, real] = await Promise.all([realpath(folder), realpath(path)]).catch((error) => {
    throw refuse(`cannot be opened (${describe(error)}); is the bundle whole?`, error);
  });
  if (real !== join(root, relative(folder, path))) {
    throw refuse("is a link, or lies behind one; copy the bundle with cp -rL first");
  }
}
