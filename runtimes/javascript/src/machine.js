// What draws, in words: for whoever reads a result without having been there.

export const VERSION = "0.2.0"; // of this package, as package.json has it

const LIBRARIES = { web: "onnxruntime-web", node: "onnxruntime-node" };

/** Name and version of the runtime: the last one that `env.versions` names beside `common`. */
export function findRuntime(ort) {
  const found = Object.entries(LIBRARIES).filter(([name]) => ort.env?.versions?.[name]);
  const [name, library] = found[0] ?? ["common", "onnxruntime"];
  return { library, version: String(ort.env?.versions?.[name] ?? "") };
}

/** How many threads a provider's kernels have, as far as the runtime says; null where it does not. */
export function countThreads(ort, { provider, threads }) {
  return provider === "wasm" ? (ort.env.wasm.numThreads ?? threads ?? null) : (threads ?? null);
}

/** E.g. "onnxruntime-web 1.30.0 wasm, 2 threads". */
export function describeRuntime(ort, place) {
  const { library, version } = findRuntime(ort);
  const threads = countThreads(ort, place);
  const words = threads === null ? "" : `, ${threads} thread${threads === 1 ? "" : "s"}`;
  return `${library} ${version} ${place.provider}${words}`;
}

const MOST_TOLD = 8; // GiB: browsers say no more, so that nobody is known by it

/** A browser's machine, as far as it says: `{ name, processors, versions, memory }`. */
export function describeBrowser() {
  /** @type {any} */
  const { deviceMemory, hardwareConcurrency = 1, userAgent = "a browser that does not say which", userAgentData } = globalThis.navigator ?? {};
  const brands = (userAgentData?.brands ?? []).filter(({ brand }) => !/not.*brand/i.test(brand)); // one is made up, so that nobody relies on their order
  const browser = brands.length ? `${brands.at(-1).brand} ${brands.at(-1).version}, ${userAgentData.platform}` : userAgent;
  return { name: `${browser}, ${hardwareConcurrency} cores`, processors: hardwareConcurrency, versions: { browser: userAgent }, memory: deviceMemory < MOST_TOLD ? deviceMemory * 2 ** 30 : undefined };
}

/** What draws by WebGPU, as the browser names it; "" where nothing does. */
export async function describeAdapter(provider) {
  const adapter = provider === "webgpu" ? await globalThis.navigator?.gpu?.requestAdapter() : null;
  const { vendor, architecture, device, description } = adapter?.info ?? {};
  return [...new Set([vendor, architecture, device, description])].filter(Boolean).join(" ");
}
