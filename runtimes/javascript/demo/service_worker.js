// Keeps the page and the bundle for use without a network.
//
// Small files of the page are fetched anew where there is a network, and come from the cache where there is none. Large ones (the
// runtime, the bundle) come from the cache by their sha256, which site.json says: a file is fetched once, and again when it changes.
"use strict";

const CACHE = "sprint-export-demo";
const SITE = "site.json";
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const scope = self.registration.scope;
let site = null; // the promise of { list, files: path -> entry }

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "GET" && url.href.startsWith(scope)) {
    event.respondWith(answer(event.request, pathOf(url)));
  }
});

self.addEventListener("message", (event) => {
  if (event.data?.kind === "keep") {
    event.waitUntil(keep(event.data.uses).then((found) => event.ports[0].postMessage(found)));
  }
});

/** A URL's path below the page; the page itself is index.html. */
function pathOf(url) {
  const path = decodeURIComponent(url.href.slice(scope.length).split(/[?#]/)[0]);
  return path === "" ? "index.html" : path;
}

/** What site.json says now, or said when there was a network. */
async function readSite() {
  const response = await fetchNewest(new Request(scope + SITE), SITE);
  const list = (await response.json()).files;
  return { list, files: new Map(list.map((entry) => [entry.path, entry])) };
}

async function answer(request, path) {
  if (path === SITE) {
    site = null; // the page begins anew
    return isolate(await fetchNewest(request, path));
  }
  site ??= readSite();
  const entry = await site.then(({ files }) => files.get(path)).catch(() => (site = undefined));
  const isLarge = entry && entry.use !== "page";
  return isolate(await (isLarge ? fetchOnce(entry) : fetchNewest(request, path)));
}

/** From the network, and kept; from the cache where there is no network. */
async function fetchNewest(request, path) {
  const cache = await caches.open(CACHE);
  const key = scope + path;
  try {
    const response = await fetch(request.url, { cache: "no-cache", credentials: "same-origin" });
    if (response.ok) {
      await cache.put(key, response.clone());
    }
    return response;
  } catch (error) {
    const kept = await cache.match(key);
    if (kept) {
      return kept;
    }
    throw error;
  }
}

const hashed = (entry) => `${scope}${entry.path}?sha256=${entry.sha256}`;

/** From the cache by its hash; from the network the first time, kept while it streams. */
async function fetchOnce(entry) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(hashed(entry));
  if (kept) {
    return kept;
  }
  const response = await fetch(scope + entry.path, { cache: "no-store", credentials: "same-origin" });
  if (response.ok) {
    cache.put(hashed(entry), response.clone()).catch(() => cache.delete(hashed(entry))); // full, or cut off: tried again later
  }
  return response;
}

/** Have every file with one of these uses in the cache, and nothing that is not of this page. */
async function keep(uses) {
  try {
    const { list } = await (site ??= readSite());
    const cache = await caches.open(CACHE);
    const wanted = list.filter((entry) => uses.includes(entry.use));
    for (const entry of wanted) {
      await keepOne(cache, entry);
    }
    await sweep(cache, list);
    return { bytes: wanted.reduce((sum, entry) => sum + entry.bytes, 0) };
  } catch (error) {
    return { problem: error.message };
  }
}

async function keepOne(cache, entry) {
  const key = entry.use === "page" ? scope + entry.path : hashed(entry);
  if (await cache.match(key)) {
    return;
  }
  const response = await fetch(scope + entry.path, { cache: "no-cache", credentials: "same-origin" });
  if (!response.ok) {
    throw new Error(`${entry.path}: the server answered ${response.status}`);
  }
  await cache.put(key, response);
}

async function sweep(cache, list) {
  const known = new Set([scope + SITE, ...list.flatMap((entry) => [scope + entry.path, hashed(entry)])]);
  for (const request of await cache.keys()) {
    if (!known.has(request.url)) {
      await cache.delete(request);
    }
  }
}

/** The response with the headers that allow threads. */
function isolate(response) {
  if (response.type === "opaque" || response.status === 0) {
    return response;
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) {
    headers.set(name, value);
  }
  const hasBody = ![101, 204, 205, 304].includes(response.status);
  return new Response(hasBody ? response.body : null, { status: response.status, statusText: response.statusText, headers });
}
