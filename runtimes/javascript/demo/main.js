// The page: what is typed becomes a request, a request becomes a picture, a picture may be kept.

import { download, makePng, paint, paintPng, watchSmooth } from "./canvas.js";
import { showCheck, showCheckFailure, showChecking, showSaved } from "./check.js";
import { Drawer, Stopped } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { Guides, describeGuide, nameGuide, packGuide } from "./guides.js";
import { Loading, showFailure, showPicture } from "./loading.js";
import { forgetAll, keepAll, startKeeping } from "./offline.js";
import { PictureStore, keyOf } from "./picture_store.js";
import {
  markSuggestion, offerSteps, offerSuggestions, readAddress, readRequest, rollSeed, takeMostSteps, writeAddress, writeRequest,
} from "./request.js";
import { Settings } from "./settings.js";
import { loadSite, sumBytes } from "./site.js";
import { count, fileName, megabytes, resultName } from "./text.js";
import { showTiming } from "./timing.js";

const SLOW_MS = 1500; // where two pictures in a row take longer they are drawn when asked for; the first one warms up
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
  guides: null,
  current: null, // what the picture that is shown was drawn from: the request, its guide and the guide's name, the bundle's name
  lastMs: 0,
  slowOnes: 0, // pictures in a row that took long
  timer: 0,
  frame: 0, // asked for while one sketches
  drawings: 0, // that run or wait
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
  page.guides = new Guides({ onChange: drawSoon, onSketch: drawSketch, takeShown: () => find("picture"), askSteps: takeMostSteps });
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
    const { app, abilities, oneAtATime } = await drawer.open(settings);
    const isFirst = page.app === null;
    page.app = app;
    showFacts(oneAtATime);
    if (isFirst) {
      await offerAll(abilities);
    }
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

/** The bundle's name and figures. */
function showFacts(oneAtATime) {
  const { app, site } = page;
  const [width, height] = [app.size.at(-1), app.size[0]];
  document.title = `${app.name}: drawing`;
  find("name").textContent = app.name;
  find("facts").textContent = `${app.target}, ${width} \u00d7 ${height}, ${megabytes(sumBytes(site, "bundle"))} MB`;
  find("licence").textContent = app.licence ? `Licence: ${app.licence}` : "";
  const slow = oneAtATime ? "One network at a time is in memory, which holds no more of them: each picture loads them again." : "";
  find("runtime-note").textContent = [page.settings.explain(), slow].filter(Boolean).join(" ");
}

/** What the bundle has to choose from, and what is drawn first. */
async function offerAll(abilities) {
  offerSteps(page.app.sampler);
  page.guides.offer(abilities);
  const usual = { prompt: page.site.suggestions[0] ?? "", seed: 0, steps: page.app.sampler.default_steps };
  const first = readAddress() ?? usual;
  writeRequest(first);
  await page.guides.write(first);
  showGallery();
}

/** Draw what the form says, now; a patient one lets the picture be that is being drawn. Resolves to whether a picture of it is shown. */
async function draw(isPatient = false) {
  page.drawings++;
  try {
    return await drawForm(isPatient);
  } finally {
    page.drawings--;
    showBusy(false);
  }
}

/** Whether another picture is on its way: drawn, or due. */
function showBusy(isDue) {
  find("frame").ariaBusy = String(isDue || page.drawings > 0);
}

async function drawForm(isPatient) {
  clearTimeout(page.timer);
  markSuggestion();
  const known = page.app && readForm();
  if (!known) {
    return false;
  }
  if (page.current && keyOf(known) === keyOf(page.current)) {
    showPicture(false);
    return true;
  }
  if (!isPatient) {
    showPicture(true);
  }
  const { prompt, seed, steps, led } = known;
  try {
    const picture = await page.drawer.draw({ prompt, seed, steps, ...led }, isPatient);
    showDrawn(picture, known);
    return true;
  } catch (error) {
    if (!(error instanceof Stopped)) {
      say(error.message);
    }
    return false;
  }
}

/** What the form says, as `page.current` has it; null where that is nothing to draw, which is said. */
function readForm() {
  const request = readRequest();
  if (request === null) {
    say("The seed is a whole number from 0 to 9007199254740991.");
    return null;
  }
  try {
    const led = page.guides.read(request.steps);
    say("");
    return request.prompt === "" ? null : { bundle: bundleName(), ...request, led, guide: nameGuide(led) };
  } catch (error) {
    say(error.message);
    return null;
  }
}

function showDrawn(picture, known) {
  const { milliseconds: times, unknown } = picture;
  paint(picture, `Picture of: ${known.prompt}`);
  showCurrent(known, "");
  say(unknown.length ? `This student does not know: ${unknown.join(", ")}; it draws as if other words stood there.` : "");
  showTiming(times, page.settings.describe());
  page.slowOnes = times.total > SLOW_MS ? page.slowOnes + 1 : 0;
  if (page.slowOnes === 2) {
    find("live").checked = false;
  }
  page.lastMs = times.total;
}

function showCurrent(known, more) {
  page.current = known;
  showPicture(false);
  const { prompt, seed, steps, led } = known;
  const size = page.guides.isOtherSize(led) ? { width: led.width, height: led.height } : {};
  const sides = size.width ? `, ${size.width} \u00d7 ${size.height}` : "";
  find("caption").textContent = `seed ${seed}, ${count(steps, "step")}${sides}${describeGuide(led)}${more}`;
  writeAddress({ prompt, seed, steps, ...size });
  find("keep").disabled = find("download").disabled = false;
  showKeep();
}

/** After a pause in typing, where that is wished; else the picture is dimmed until it is asked for. */
function drawSoon() {
  clearTimeout(page.timer);
  markSuggestion();
  if (!find("live").checked) {
    showUndrawn();
    return;
  }
  showBusy(true);
  const pause = Math.min(Math.max(page.lastMs / 2, PAUSE_MS.least), PAUSE_MS.most);
  page.timer = setTimeout(draw, pause);
}

/** The form says something else than what is shown, and is not asked to be drawn yet. */
function showUndrawn() {
  if (page.app) {
    readForm();
    showPicture(page.current !== null);
  }
}

/** While one sketches: once a frame, and as often as pictures are made. */
function drawSketch() {
  if (!find("live").checked) {
    showUndrawn();
    return;
  }
  showBusy(true);
  page.frame ||= requestAnimationFrame(() => {
    page.frame = 0;
    draw(true);
  });
}

async function drawAndKeep() {
  if ((await draw()) && !page.store.has(keyOf(page.current))) {
    await keep();
  }
}

async function keep() {
  const { led, ...current } = page.current;
  const { width, height } = find("picture");
  const [png, guide] = await Promise.all([makePng(), packGuide(led)]);
  try {
    await page.store.add({ ...current, ...guide, key: keyOf(current), png, width, height, kept: Date.now() });
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

/** A kept picture with its prompt, seed and guide again; drawn anew where it is another bundle's. */
async function showKept(picture) {
  writeRequest(picture);
  await page.guides.write(picture);
  const known = readForm();
  if (known === null || keyOf(known) !== picture.key) {
    await draw();
    return;
  }
  page.drawer.stop();
  await paintPng(picture.png, `Picture of: ${picture.prompt}`);
  showCurrent(known, ", kept");
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
      showBusy(false);
      find("prompt").focus();
    }
  });
}

start();
