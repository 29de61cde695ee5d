// Kept pictures in IndexedDB, by what they were drawn from:
// { key, prompt, seed, steps, bundle, width, height, png: Blob, kept: milliseconds since 1970 }, and what led it beside the prompt:
// { guide: its name, image: Blob, strength, control: Blob, controlScale }.
// Where the browser keeps nothing (a private window) they last as long as the page.

const DATABASE = "sprint-export-demo";
const STORE = "pictures";

/** What a picture is known by. */
export function keyOf({ bundle, prompt, seed, steps, guide }) {
  return JSON.stringify([bundle, prompt, seed, steps, ...(guide ? [guide] : [])]);
}

export class PictureStore {
  #database = null;
  #pictures = new Map(); // key -> picture, oldest first

  /** Read what was kept; whether anything can be is told by `isLasting`. */
  async open() {
    try {
      this.#database = await openDatabase();
      const pictures = await this.#ask("readonly", (store) => store.getAll());
      pictures.sort((one, other) => one.kept - other.kept);
      this.#pictures = new Map(pictures.map((picture) => [picture.key, picture]));
    } catch {
      this.#database = null;
    }
  }

  get isLasting() {
    return this.#database !== null;
  }

  /** Newest first. */
  list() {
    return [...this.#pictures.values()].reverse();
  }

  has(key) {
    return this.#pictures.has(key);
  }

  async add(picture) {
    this.#pictures.set(picture.key, picture);
    await this.#ask("readwrite", (store) => store.put(picture));
  }

  async remove(key) {
    this.#pictures.delete(key);
    await this.#ask("readwrite", (store) => store.delete(key));
  }

  async clear() {
    this.#pictures.clear();
    await this.#ask("readwrite", (store) => store.clear());
  }

  #ask(mode, request) {
    if (!this.#database) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(STORE, mode);
      const asked = request(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser refused to store the picture"));
    });
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another window holds the pictures"));
  });
}
