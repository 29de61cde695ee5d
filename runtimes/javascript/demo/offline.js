// The service worker, seen from the page: it keeps every file, and where a server does not send the headers that threads need
// (Cross-Origin-Opener-Policy, Cross-Origin-Embedder-Policy), it adds them.

import { megabytes } from "./text.js";

const PATIENCE_MS = 4000;
const RELOADED = "sprint-export-isolated";

/** Start it before anything large is fetched, so that it sees it; true where the page is about to be loaded again.
 * @returns {Promise<boolean>}
 */
export async function startKeeping() {
  if (!navigator.serviceWorker) {
    return false; // not a secure context, or turned off
  }
  try {
    await navigator.serviceWorker.register("service_worker.js", { updateViaCache: "none" });
    await waitForController();
  } catch {
    return false;
  }
  return reloadForThreads();
}

/** Keep what the page has not fetched yet; says whether it works without a network from now on. */
export async function keepAll(uses) {
  const line = document.getElementById("offline");
  if (!navigator.serviceWorker?.controller) {
    line.textContent = "Not kept for use without a network: the browser allows that at https and localhost only.";
    return;
  }
  const channel = new MessageChannel();
  const answer = new Promise((resolve) => (channel.port1.onmessage = ({ data }) => resolve(data)));
  navigator.serviceWorker.controller.postMessage({ kind: "keep", uses }, [channel.port2]);
  const { bytes, problem } = await answer;
  line.textContent = problem ? `Not kept for use without a network: ${problem}` : `Works without a network: ${megabytes(bytes)} MB kept.`;
}

/** Throw away what was kept, and load the page again. */
export async function forgetAll() {
  if (window.caches) {
    await Promise.all((await caches.keys()).map((name) => caches.delete(name)));
  }
  location.reload();
}

function waitForController() {
  const workers = navigator.serviceWorker;
  if (workers.controller) {
    return Promise.resolve();
  }
  return new Promise((resolve, reject) => {
    workers.addEventListener("controllerchange", () => resolve(), { once: true });
    setTimeout(() => reject(new Error("no service worker in time")), PATIENCE_MS);
  });
}

/** Once a tab: the page again, with the headers that the service worker adds. */
function reloadForThreads() {
  if (self.crossOriginIsolated || !self.isSecureContext || sessionStorage.getItem(RELOADED)) {
    return false;
  }
  sessionStorage.setItem(RELOADED, "yes");
  location.reload();
  return true;
}
