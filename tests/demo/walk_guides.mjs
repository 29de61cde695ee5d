// Walks through what leads a drawing beside its prompt: the sketch of a bundle with a ControlNet, the size and the picture to start from
// of one with free sizes; prints what it saw, as JSON. tests/demo/test_guides.py says what it has to be.
//
//   node walk_guides.mjs NODE_MODULES URL_OF_STEERED URL_OF_FREE FOLDER_OF_PICTURES
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { PATIENCE, drawn, kept, label, listControls, openPage, pixels, seen, text, value, walk, walkByKeyboard } from "./page_tools.mjs";

const [nodeModules, steered, free, pictures] = process.argv.slice(2);
const PROMPT = "prompt=a+large+cyan+square+right+of+a+small+cyan+circle+on+a+gray+background&seed=2&steps=1";
const WORDS = "prompt=a+red+circle+above+a+blue+square&seed=3";

const caption = (page) => text(page, "caption");
const offered = (page) => page.evaluate(() => ["sketch", "start", "size"].filter((id) => !document.getElementById(id).hidden));

/** Wait until the picture of the form is shown and its caption says this. */
const waitFor = (page, words) => page.waitForFunction(
  (wanted) => document.getElementById("frame").ariaBusy !== "true" && document.getElementById("caption").textContent === wanted, PATIENCE, words,
);

const waitForNote = (page, id) => page.waitForFunction((note) => document.getElementById(note).textContent !== "", PATIENCE, id);

/** Let the page do something, and wait until another picture is shown. */
async function untilOther(page, act) {
  await page.waitForFunction(() => document.getElementById("frame").ariaBusy !== "true", PATIENCE);
  const before = await pixels(page);
  await act();
  await page.waitForFunction(
    (known) => {
      const canvas = document.getElementById("picture");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return document.getElementById("frame").ariaBusy !== "true" && btoa(String.fromCharCode(...data)) !== known;
    }, PATIENCE, before,
  );
}

async function choose(page, id, name) {
  const input = await page.$(`#${id}`);
  await input.uploadFile(join(pictures, name));
}

/** What the newest kept picture was led by: its given picture as RGBA, in its size. */
const readGuide = (page, name) => page.evaluate(async (field) => {
  const database = await new Promise((resolve) => (indexedDB.open("sprint-export-demo", 1).onsuccess = ({ target }) => resolve(target.result)));
  const all = await new Promise((resolve) => (database.transaction("pictures").objectStore("pictures").getAll().onsuccess = ({ target }) => resolve(target.result)));
  database.close();
  const found = all.sort((one, other) => other.kept - one.kept)[0];
  const image = await createImageBitmap(found[field]);
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  return { rgba: btoa(String.fromCharCode(...data)), width: image.width, height: image.height, ...found, png: null, image: null, control: null };
}, name);

/** Hand over a file as a drop or a paste does. */
const hand = (page, kind, target, name) => page.evaluate((event, selector, file, bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], file, { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  const made = event === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: transfer }) : new DragEvent(event, { ...options, dataTransfer: transfer });
  document.querySelector(selector).dispatchEvent(made);
  return made.defaultPrevented;
}, kind, target, name, readFileSync(join(pictures, name)).toString("base64"));

const findPad = async (page) => (await page.$("#pad")).boundingBox();

/** Draw a box with the mouse; what is shown while the button is still down. */
async function drawBox(page) {
  const { x, y, width, height } = await findPad(page);
  await page.click("#tools input[value=box]");
  await page.mouse.move(x + width * 0.5, y + height * 0.25);
  await page.mouse.down();
  await page.mouse.move(x + width * 0.7, y + height * 0.5);
  await page.mouse.move(x + width * 0.875, y + height * 0.75);
  await waitFor(page, "seed 2, 1 step, with a sketch");
  const meanwhile = await caption(page);
  await page.mouse.up();
  return meanwhile;
}

async function walkSketch() {
  const page = await openPage(`${steered}#${PROMPT}`, { width: 1200, height: 900 });
  seen.sketch = { offered: await offered(page), plain: await pixels(page), hint: await page.$eval("#pad-hint", ({ hidden }) => hidden) };
  seen.sketch.meanwhile = await drawBox(page);
  await page.click("#keep");
  await page.waitForSelector("#gallery button", PATIENCE);
  seen.sketch.drawn = { pixels: await pixels(page), ...(await readGuide(page, "control")), kept: await kept(page) };
  await untilOther(page, () => page.click("#undo"));
  seen.sketch.undone = { pixels: await pixels(page), caption: await caption(page), undo: await page.$eval("#undo", ({ disabled }) => disabled) };
  await page.click("#gallery button");
  await waitFor(page, "seed 2, 1 step, with a sketch, kept");
  seen.sketch.restored = await pixels(page);
  await untilOther(page, () => page.click("#wipe"));
  await walkSketchByKeyboard(page);
  await walkSketchFiles(page);
  seen.sketch.reached = await walkByKeyboard(page);
  seen.sketch.controls = await listControls(page);
}

async function walkSketchByKeyboard(page) {
  await page.focus("#tools input[value=oval]");
  await page.keyboard.press("Space");
  await page.focus("#pad");
  await untilOther(page, async () => {
    for (const key of ["ArrowLeft", "ArrowUp", "Space", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "Space", "ArrowDown"]) {
      await page.keyboard.press(key, key.startsWith("Arrow") ? { delay: 5 } : {});
    }
  });
  await waitFor(page, "seed 2, 1 step, with a sketch");
  await page.focus("#scale");
  await untilOther(page, () => page.keyboard.press("Home"));
  seen.sketch.unscaled = { pixels: await pixels(page), scale: await text(page, "scale-text") };
  await untilOther(page, () => page.keyboard.press("End"));
  seen.sketch.most = await text(page, "scale-text");
  await page.focus("#pad");
  await untilOther(page, () => page.keyboard.press("Backspace"));
  seen.sketch.byKeyboard = { pixels: await pixels(page), focus: await page.evaluate(() => document.activeElement.id) };
}

async function walkSketchFiles(page) {
  await page.$eval("#scale", (input) => {
    input.value = "1";
    input.dispatchEvent(new Event("input"));
  });
  await untilOther(page, () => choose(page, "sketch-file", "outline.png"));
  seen.sketch.file = await pixels(page);
  for (const name of ["words.png", "cut_off.png", "huge.png"]) {
    await page.$eval("#sketch-note", (note) => (note.textContent = ""));
    await choose(page, "sketch-file", name);
    await waitForNote(page, "sketch-note");
    seen.sketch[name] = await text(page, "sketch-note");
  }
  seen.sketch.afterBad = await pixels(page);
  await untilOther(page, () => page.click("#wipe"));
  await untilOther(page, () => hand(page, "drop", "#pad", "outline.png"));
  seen.sketch.dropped = await pixels(page);
  await untilOther(page, () => page.click("#wipe"));
  await page.focus("#prompt");
  await untilOther(page, () => hand(page, "paste", "#prompt", "outline.png"));
  seen.sketch.pasted = await pixels(page);
  await untilOther(page, () => page.click("#wipe"));
  await untilOther(page, () => page.click("#edges"));
  await page.click("#keep");
  await page.waitForFunction(() => document.querySelectorAll("#gallery button").length === 2, PATIENCE);
  seen.sketch.traced = await readGuide(page, "control");
}

async function setNumber(page, id, number) {
  await page.click(`#${id}`, { count: 3 });
  await page.keyboard.type(String(number));
}

async function walkFree() {
  const page = await openPage(`${free}#${WORDS}&steps=1&height=32&width=96`, { width: 1200, height: 900 });
  seen.free = { offered: await offered(page), fromAddress: { pixels: await pixels(page), caption: await caption(page), width: await value(page, "width") } };
  await setNumber(page, "height", 33);
  await page.waitForFunction(() => document.getElementById("message").textContent !== "", PATIENCE);
  seen.free.refused = await text(page, "message");
  await setNumber(page, "height", 48);
  await waitFor(page, "seed 3, 1 step, 96 \u00d7 48");
  seen.free.sized = { pixels: await pixels(page), address: await page.evaluate(() => location.hash) };
  await page.click("#turn");
  await waitFor(page, "seed 3, 1 step, 48 \u00d7 96");
  seen.free.turned = await page.$eval("#picture", ({ width, height }) => [height, width]);
  await walkStart(page);
  seen.free.reached = await walkByKeyboard(page);
  seen.free.controls = await listControls(page);
}

async function walkStart(page) {
  await setNumber(page, "width", 96);
  await setNumber(page, "height", 32);
  await waitFor(page, "seed 3, 1 step, 96 \u00d7 32");
  await choose(page, "start-file", "photo.png");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32, from a picture");
  seen.free.started = { pixels: await pixels(page), change: await text(page, "strength-text") };
  await page.focus("#strength");
  await untilOther(page, () => page.keyboard.press("ArrowLeft"));
  seen.free.nearer = { pixels: await pixels(page), change: await text(page, "strength-text") };
  await page.click("#keep");
  await page.waitForSelector("#gallery button", PATIENCE);
  seen.free.kept = await kept(page);
  await page.click("#start-remove");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32");
  seen.free.removed = { pixels: await pixels(page), focus: await page.evaluate(() => document.activeElement.id) };
  await page.click("#start-take");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32, from a picture");
  seen.free.again = await pixels(page);
  await page.reload();
  await drawn(page);
  await page.click("#gallery button");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32, from a picture, kept");
  seen.free.restored = { pixels: await pixels(page), change: await text(page, "strength-text") };
  await choose(page, "start-file", "words.png");
  await waitForNote(page, "start-note");
  seen.free.note = await text(page, "start-note");
  await page.click("#start-remove");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32");
  seen.free.isTaken = await hand(page, "drop", "body", "photo.png");
  await waitFor(page, "seed 3, 4 steps, 96 \u00d7 32, from a picture");
  seen.free.dropped = await pixels(page);
}

async function walkPhone() {
  const page = await openPage(`${steered}#${PROMPT}`, { width: 360, height: 740, isMobile: true });
  const { x, y, width, height } = await findPad(page);
  await untilOther(page, async () => {
    const finger = await page.touchscreen.touchStart(x + width * 0.3, y + height * 0.3);
    await finger.move(x + width * 0.6, y + height * 0.3);
    await finger.move(x + width * 0.6, y + height * 0.6);
    await finger.end();
  });
  await waitFor(page, "seed 2, 1 step, with a sketch");
  seen.phone = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth, screen: innerWidth, scrolled: scrollY,
    bottom: document.getElementById("pad").getBoundingClientRect().bottom, high: innerHeight,
    small: [...document.querySelectorAll("button, select, input[type=number], .choices label")].filter((element) => element.checkVisibility()
      && element.getBoundingClientRect().height < 40).map((element) => element.id || element.textContent),
  }));
  seen.phone.label = await label(page);
}

await walk(nodeModules, 240, () => walkPhone().then(walkSketch).then(walkFree));
