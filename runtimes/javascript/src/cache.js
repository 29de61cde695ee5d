// Files of bundles kept in a browser, by their sha256: the Cache API, and the origin private file system for those that it refuses
// in some browsers (above 2 GB a response cannot be kept). What comes out is hashed again, like what comes from the network.

const NAME = "sprint-export";
const MOST_RESPONSE = 2 ** 31 - 1; // bytes

/** Where files are kept here; null where nothing can be. */
export function openCache() {
  const hasCaches = typeof globalThis.caches?.open === "function";
  const hasFiles = typeof globalThis.navigator?.storage?.getDirectory === "function";
  if (!hasCaches && !hasFiles) {
    return null;
  }
  const pick = (bytes) => (hasCaches && (bytes <= MOST_RESPONSE || !hasFiles) ? responses : privateFiles);
  return {
    /** The bytes kept, or null. */
    get: (file) => pick(file.bytes).get(file.sha256).catch(() => null),
    /** Keep bytes; false where there is no room. */
    put: (file, bytes) => pick(file.bytes).put(file.sha256, bytes).then(() => true, () => false),
    /** Forget bytes that turned out damaged. */
    remove: (file) => pick(file.bytes).remove(file.sha256).catch(() => {}),
  };
}

const nameOf = (sha256) => new URL(`/${NAME}/${sha256}`, globalThis.location.href).href;

const responses = {
  async get(sha256) {
    const found = await (await caches.open(NAME)).match(nameOf(sha256));
    return found ? new Uint8Array(await found.arrayBuffer()) : null;
  },
  async put(sha256, bytes) {
    await (await caches.open(NAME)).put(nameOf(sha256), new Response(bytes));
  },
  async remove(sha256) {
    await (await caches.open(NAME)).delete(nameOf(sha256));
  },
};

const openFolder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(NAME, { create: true });

const privateFiles = {
  async get(sha256) {
    const file = await (await (await openFolder()).getFileHandle(sha256)).getFile();
    return new Uint8Array(await file.arrayBuffer());
  },
  async put(sha256, bytes) {
    const writable = await (await (await openFolder()).getFileHandle(sha256, { create: true })).createWritable();
    await writable.write(bytes);
    await writable.close();
  },
  async remove(sha256) {
    await (await openFolder()).removeEntry(sha256);
  },
};
