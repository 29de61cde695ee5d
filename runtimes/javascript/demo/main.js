// The page: what is typed becomes a request, a request becomes a picture, a picture may be kept.

import { download, makePng, paint, paintPng, watchSmooth } from "./canvas.js";
import { showCheck, showCheckFailure, showChecking, showSaved } from "./check.js";
import { Drawer, Stopped } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { Loading, showFailure, showPicture } from "./loading.js";
import { forgetAll, keepAll, startKeeping } from "./offline.js";
import { PictureStore, keyOf } from "./picture_store.js";
import {
  markSuggestion, offerSteps, offerSuggestions, readAddress, readRequest, rollSeed, writeAddress, writeRequest,
} from "./request.js";
import { Settings } from "./settings.js";
import { loadSite, sumBytes } from "./site.js";
import { count, fileName, megabytes, resultName } from "./text.js";
import { showTiming } from "./timing.js";

const SLOW_MS = 1500; // a picture that takes longer is drawn when asked for, not while typing
const TIMED = 20; // pictures of a result
const PAUSE_MS = { least: 60, most: 500 }; // between the last letter and a drawing: half of what the last one took
const find = (id) => document.getElementById(id);

const page = {
  site: null,
  app: null,
  drawer: null,
  settings: null,
  store: new PictureStore(),
  gallery: null,
  current: null, // the request of the picture that is shown, with its bundle's name
  lastMs: 0,
  timer: 0,
};

async function start() {
  if (await startKeeping()) {
    return; // loaded again
  }
  try {
    page.site = await loadSite();
  } catch (error) {
    showFailure(error.message);
    return;
  }
  watchSmooth();
  page.settings = new Settings(page.site, () => openBundle());
  await Promise.all([page.settings.offer(), page.store.open()]);
  page.gallery = new Gallery(page.store, showKept, () => showGallery());
  offerSuggestions(page.site.suggestions, () => draw());
  listen();
  await openBundle();
  if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body) {
    find("prompt").focus();
  }
}

/** Open the bundle with the settings that stand in the form, and draw. */
async function openBundle() {
  page.drawer?.close();
  const settings = page.settings.read();
  const loading = new Loading(settings.runtime.bytes + sumBytes(page.site, "bundle"));
  page.drawer = new Drawer((progress) => loading.tell(progress));
  const { drawer } = page;
  setReady(false);
  try {
    const { app } = await drawer.open(settings);
    const isFirst = page.app === null;
    page.app = app;
    showFacts(isFirst);
  } catch (error) {
    if (!(error instanceof Stopped)) {
      showFailure(`${error.message}`);
    }
    return;
  }
  setReady(true);
  page.current = null; // what was drawn before, something else drew
  await draw();
  keepAll(["page", "runtime", "bundle", "reference", settings.provider]);
}

function setReady(isReady) {
  for (const id of ["draw", "check", "measure"]) {
    find(id).disabled = !isReady;
  }
}

/** The bundle's name and figures; the first time also what is drawn first. */
function showFacts(isFirst) {
  const { app, site } = page;
  const [width, height] = [app.size.at(-1), app.size[0]];
  document.title = `${app.name}: drawing`;
  find("name").textContent = app.name;
  find("facts").textContent = `${app.target}, ${width} \u00d7 ${height}, ${megabytes(sumBytes(site, "bundle"))} MB`;
  find("licence").textContent = app.licence ? `Licence: ${app.licence}` : "";
  find("runtime-note").textContent = page.settings.explain();
  if (isFirst) {
    offerSteps(app.sampler);
    const usual = { prompt: page.site.suggestions[0] ?? "", seed: 0, steps: app.sampler.default_steps };
    writeRequest(readAddress() ?? usual);
    showGallery();
  }
}

/** Draw what the form says, now. Resolves to whether a picture of it is shown. */
async function draw() {
  clearTimeout(page.timer);
  const request = readRequest();
  markSuggestion();
  if (!page.app || !check(request)) {
    return false;
  }
  const known = { bundle: bundleName(), ...request };
  if (page.current && keyOf(known) === keyOf(page.current)) {
    showPicture(false);
    return true;
  }
  showPicture(true);
  try {
    const picture = await page.drawer.draw(request);
    showDrawn(picture, known);
    return true;
  } catch (error) {
    if (!(error instanceof Stopped)) {
      say(error.message);
    }
    return false;
  }
}

/** Say what is wrong with a request; whether it can be drawn. */
function check(request) {
  say(request === null ? "The seed is a whole number from 0 to 9007199254740991." : "");
  return request !== null && request.prompt !== "";
}

function showDrawn(picture, known) {
  const { milliseconds: times, unknown } = picture;
  paint(picture, `Picture of: ${known.prompt}`);
  showCurrent(known, "");
  say(unknown.length ? `This student does not know: ${unknown.join(", ")}; it draws as if other words stood there.` : "");
  showTiming(times, page.settings.describe());
  if (page.lastMs === 0 && times.total > SLOW_MS) {
    find("live").checked = false;
  }
  page.lastMs = times.total;
  writeAddress({ prompt: known.prompt, seed: known.seed, steps: known.steps });
}

function showCurrent(known, more) {
  page.current = known;
  showPicture(false);
  find("caption").textContent = `seed ${known.seed}, ${count(known.steps, "step")}${more}`;
  find("keep").disabled = find("download").disabled = false;
  showKeep();
}

/** After a pause in typing, where that is wished; else the picture is dimmed until it is asked for. */
function drawSoon() {
  clearTimeout(page.timer);
  markSuggestion();
  if (!find("live").checked) {
    showPicture(page.current !== null);
    return;
  }
  const pause = Math.min(Math.max(page.lastMs / 2, PAUSE_MS.least), PAUSE_MS.most);
  page.timer = setTimeout(draw, pause);
}

async function drawAndKeep() {
  if ((await draw()) && !page.store.has(keyOf(page.current))) {
    await keep();
  }
}

async function keep() {
  const { current } = page;
  const png = await makePng();
  const { width, height } = find("picture");
  try {
    await page.store.add({ ...current, key: keyOf(current), png, width, height, kept: Date.now() });
  } catch (error) {
    say(`The picture is kept until this page is closed: ${error.message}`);
  }
  showGallery();
}

async function keepOrRemove() {
  const key = keyOf(page.current);
  if (page.store.has(key)) {
    await page.store.remove(key);
    showGallery();
  } else {
    await keep();
  }
}

/** A kept picture with its prompt and seed again; drawn anew where it is another bundle's. */
async function showKept(picture) {
  writeRequest(picture);
  if (picture.bundle !== bundleName()) {
    await draw();
    return;
  }
  page.drawer.stop();
  await paintPng(picture.png, `Picture of: ${picture.prompt}`);
  const { bundle, prompt, seed, steps } = picture;
  showCurrent({ bundle, prompt, seed, steps }, ", kept");
  writeAddress({ prompt, seed, steps });
}

const bundleName = () => `${page.app.name} ${page.app.target}`;

function showGallery() {
  const current = page.current && keyOf(page.current);
  page.gallery.show(current);
  showKeep();
}

function showKeep() {
  const key = page.current && keyOf(page.current);
  const isKept = key !== null && page.store.has(key);
  find("keep").textContent = isKept ? "Kept" : "Keep";
  find("keep").setAttribute("aria-pressed", String(isKept));
  page.gallery.mark(key);
}

function say(text) {
  if (find("message").textContent !== text) {
    find("message").textContent = text;
  }
}

/** Run one of the buttons that take a while, and say why where it fails. */
async function runSlowly(act) {
  find("check").disabled = find("measure").disabled = true;
  try {
    await act();
  } catch (error) {
    showCheckFailure(error.message);
  }
  find("check").disabled = find("measure").disabled = false;
}

async function compare() {
  showChecking();
  showCheck(await page.drawer.check());
}

/** A result as a file, for `sprint-export report --merge`. */
async function measure() {
  showChecking(`Drawing the reference pictures, then ${count(TIMED, "picture")} more`);
  const device = find("device").value.trim();
  const result = await page.drawer.validate({ runs: TIMED, label: device });
  const name = resultName({ bundle: page.app.name, target: page.app.target, device });
  download(new Blob([`${JSON.stringify(result, null, 1)}\n`], { type: "application/json" }), name);
  showSaved(result, name);
}

function listen() {
  find("prompt").addEventListener("input", drawSoon);
  find("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      drawAndKeep();
    }
  });
  find("request").addEventListener("submit", (event) => {
    event.preventDefault();
    drawAndKeep();
  });
  find("seed").addEventListener("input", drawSoon);
  find("steps").addEventListener("change", drawSoon);
  find("live").addEventListener("change", drawSoon);
  find("dice").addEventListener("click", () => {
    rollSeed();
    draw();
  });
  find("keep").addEventListener("click", keepOrRemove);
  find("download").addEventListener("click", async () => download(await makePng(), fileName(page.current)));
  find("check").addEventListener("click", () => runSlowly(compare));
  find("measure").addEventListener("click", () => runSlowly(measure));
  find("retry").addEventListener("click", forgetAll);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      clearTimeout(page.timer);
      page.drawer.stop();
      find("prompt").focus();
    }
  });
}

start();
