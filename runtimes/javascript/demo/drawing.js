// The worker that draws, seen from the page. At most one drawing runs and one waits; a newer request takes the waiting one's place
// and asks the running one to stop, so that what is shown last is what was asked for last.

/** A drawing that was given up for a newer one, or stopped. */
export class Stopped extends Error {
  constructor() {
    super("the drawing was stopped");
    this.name = "AbortError";
  }
}

export class Drawer {
  #worker;
  #calls = new Map(); // id -> { resolve, reject }
  #nextId = 1;
  #running = null; // id of the drawing in the worker
  #waiting = null; // { request, resolve, reject }

  /** @param {(progress: {stage: string, done: number, total: number}) => void} onProgress of loading, in bytes */
  constructor(onProgress) {
    this.onProgress = onProgress;
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module", name: "drawing" });
    this.#worker.addEventListener("message", ({ data }) => this.#hear(data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#failAll(new Error(event.message || "the worker's script cannot be loaded"));
    });
  }

  /** Load the runtime and the bundle; resolves to { app, abilities, oneAtATime }. */
  open(settings) {
    return this.#call({ kind: "open", settings });
  }

  /** Draw, or wait for the running drawing; resolves to the package's picture.
   * @param {object} request
   * @param {boolean} [isPatient] lets the running drawing end: where requests come faster than pictures, some of them are seen
   * @throws {Stopped} a newer request came, or `stop` was called
   */
  draw(request, isPatient = false) {
    return new Promise((resolve, reject) => {
      this.#waiting?.reject(new Stopped());
      this.#waiting = { request, resolve, reject };
      if (this.#running === null) {
        this.#startWaiting();
      } else if (!isPatient) {
        this.#worker.postMessage({ kind: "stop", id: this.#running });
      }
    });
  }

  /** Whether a drawing runs or waits. */
  get isBusy() {
    return this.#running !== null;
  }

  /** Give up what waits, and ask what runs to stop after the network it is in. */
  stop() {
    this.#waiting?.reject(new Stopped());
    this.#waiting = null;
    if (this.#running !== null) {
      this.#worker.postMessage({ kind: "stop", id: this.#running });
    }
  }

  /** Compare with the bundle's reference pictures. */
  check() {
    return this.#call({ kind: "check" });
  }

  /** Compare all that the reference holds, time pictures; resolves to the package's result. `options` as its `validate` takes them. */
  validate(options) {
    return this.#call({ kind: "validate", options });
  }

  /** End the worker at once, with all its memory. */
  close() {
    this.#worker.terminate();
    this.#failAll(new Stopped());
  }

  #startWaiting() {
    const { request, resolve, reject } = this.#waiting;
    this.#waiting = null;
    this.#running = this.#nextId;
    this.#call({ kind: "draw", request }).then(resolve, reject).finally(() => {
      this.#running = null;
      if (this.#waiting) {
        this.#startWaiting();
      }
    });
  }

  #call(message) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#calls.set(id, { resolve, reject });
      this.#worker.postMessage({ ...message, id });
    });
  }

  #hear(answer) {
    if (answer.kind === "progress") {
      this.onProgress(answer);
      return;
    }
    const call = this.#calls.get(answer.id);
    this.#calls.delete(answer.id);
    if (answer.kind === "done") {
      call?.resolve(answer.value);
    } else {
      call?.reject(answer.isStopped ? new Stopped() : new Error(answer.message));
    }
  }

  #failAll(error) {
    for (const { reject } of this.#calls.values()) {
      reject(error);
    }
    this.#calls.clear();
    this.#waiting?.reject(error);
    this.#waiting = null;
  }
}
