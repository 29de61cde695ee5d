// What draws: a provider and a number of threads. The choice lasts; a change opens the bundle again.

import { count } from "./text.js";

const KEY = "sprint-export-runtime";
const NAMES = { wasm: "WebAssembly", webgpu: "WebGPU" };
const MOST_THREADS = 4; // more rarely help networks of this kind in a browser

const provider = document.getElementById("provider");
const threads = document.getElementById("threads");

export class Settings {
  /**
   * @param {object} site
   * @param {() => void} onChange
   */
  constructor(site, onChange) {
    this.site = site;
    provider.addEventListener("change", () => this.#store(onChange));
    threads.addEventListener("change", () => this.#store(onChange));
  }

  /** Offer what this browser has. Whether it has WebGPU is asked where it was chosen before, or when somebody looks. */
  async offer() {
    const stored = readStored();
    if (stored.provider === "webgpu") {
      await this.#offerWebGpu();
      provider.value = provider.namedItem("webgpu") ? "webgpu" : "wasm";
    } else {
      document.querySelector(".runtime").addEventListener("toggle", () => this.#offerWebGpu(), { once: true });
    }
    const most = self.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency ?? 1) : 1;
    threads.replaceChildren(...countUp(most).map((n) => new Option(String(n), String(n))));
    threads.value = String(Math.min(stored.threads ?? MOST_THREADS, most));
    threads.disabled = most === 1;
  }

  /** As worker.js takes them. */
  read() {
    const runtime = this.site.runtimes[provider.value];
    const bytes = this.site.files.find((file) => file.path === runtime.binary).bytes;
    return { provider: provider.value, threads: Number(threads.value), runtime: { ...runtime, bytes }, bundle: this.site.bundle };
  }

  /** What is drawn with, in words. */
  describe() {
    const threaded = `, ${count(Number(threads.value), "thread")}`;
    return `${NAMES[provider.value]}${provider.value === "wasm" ? threaded : ""}`;
  }

  /** Why there is one thread, where there is one, or "". */
  explain() {
    if (self.crossOriginIsolated) {
      return "";
    }
    return (
      "One thread: more need a page at https or localhost whose server sends Cross-Origin-Opener-Policy: same-origin and " +
      "Cross-Origin-Embedder-Policy: require-corp."
    );
  }

  async #offerWebGpu() {
    if (this.site.runtimes.webgpu && (await hasWebGpu())) {
      const option = new Option(NAMES.webgpu, "webgpu");
      option.id = "webgpu";
      provider.append(option);
    }
  }

  #store(onChange) {
    localStorage.setItem(KEY, JSON.stringify({ provider: provider.value, threads: Number(threads.value) }));
    onChange();
  }
}

function readStored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

async function hasWebGpu() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/** 1, 2, 3, 4, 6, 8, 12, ... up to `most`, and `most`. */
function countUp(most) {
  const counts = [];
  for (let n = 1; n < most; n += Math.max(1, 2 ** Math.floor(Math.log2(n)) / 2)) {
    counts.push(n);
  }
  return [...counts, most];
}
