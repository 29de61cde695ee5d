// Walks through a report in Chromium and prints what it saw, as JSON; test_in_browser.py says what it has to be.
//
//   node walk_report.mjs NODE_MODULES FILE
import { pathToFileURL } from "node:url";
import { launchChromium } from "../../chromium.mjs";

const [nodeModules, file] = process.argv.slice(2);
const browser = await launchChromium(nodeModules);
const seen = { console: [], requests: [] };

async function openPage({ width, height, isMobile = false, scheme = "light", script = true }) {
  const page = await browser.newPage();
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`exception: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url().split(",")[0]));
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height, isMobile, hasTouch: isMobile });
  await page.goto(pathToFileURL(file).href);
  return page;
}

const listPlaces = (page) => page.$$eval(".tile", (tiles) => tiles.filter((tile) => tile.checkVisibility()).map((tile) => Number(tile.dataset.place)));
const text = (page, selector) => page.$eval(selector, (element) => element.textContent);
const colours = (page) => page.evaluate(() => [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]);
const widths = (page) => page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);

async function walkTiles(page) {
  seen.few = { places: await listPlaces(page), said: await text(page, "#found"), button: await text(page, "#more") };
  await page.click("#more");
  seen.more = { isSeen: await page.$eval("#more", (button) => button.checkVisibility()), focused: await page.evaluate(() => document.activeElement.closest(".tile")?.dataset.place) };
  seen.places = { worst: await listPlaces(page) };
  for (const order of ["place", "+psnr_db", "-ssim", "worst"]) {
    await page.select("#order", order);
    seen.places[order] = await listPlaces(page);
  }
  await page.type("#search", "CIRCLE 1");
  seen.found = { places: await listPlaces(page), said: await text(page, "#found") };
  await page.type("#search", "nowhere");
  seen.lost = { places: await listPlaces(page), said: await text(page, "#found"), note: await page.$eval("#nothing", (note) => note.checkVisibility()) };
  await page.$eval("#search", (field) => { field.value = ""; field.dispatchEvent(new Event("input")); });
}

async function walkViewer(page) {
  await page.focus(".shots");
  await page.keyboard.press("Enter");
  const look = () => page.evaluate(() => ({
    open: document.getElementById("viewer").open,
    alt: document.getElementById("large").alt.split(":")[0],
    prompt: document.getElementById("viewer-prompt").textContent,
    pressed: document.querySelector("#choices [aria-pressed=true]")?.textContent,
    decoded: document.getElementById("large").naturalWidth,
  }));
  seen.viewer = [await look()];
  for (const key of ["b", "b", "3", "ArrowRight", "ArrowLeft", "Escape"]) {
    await page.keyboard.press(key);
    await page.evaluate(() => document.getElementById("large").decode().catch(() => null));
    seen.viewer.push(await look());
  }
  seen.focused = await page.evaluate(() => document.activeElement.className);
}

async function walkMap(page) {
  await page.mouse.move(1, 1);
  await page.focus(".map");
  const read = () => page.$eval(".reader", (reader) => reader.textContent);
  seen.map = [await read()];
  for (const key of ["ArrowRight", "ArrowRight", "End", "Home"]) {
    await page.keyboard.press(key);
    seen.map.push(await read());
  }
  await page.hover(".map .cell:last-of-type");
  seen.map.push(await read());
}

/** Press Tab from the top to the end: every stop has a name, and one sees where one is. */
async function walkByKeyboard(page) {
  await page.focus(".skip");
  await page.keyboard.press("Tab");
  await page.keyboard.down("Shift");
  await page.keyboard.press("Tab");
  await page.keyboard.up("Shift");
  seen.stops = [];
  for (let i = 0; i < 120; i++) {
    const stop = await page.evaluate(() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const name = element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent.trim();
      return element === document.body ? null : { tag: element.localName, id: element.id, name: name.slice(0, 40), isSeen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
    });
    if (stop === null) {
      break;
    }
    seen.stops.push(stop);
    await page.keyboard.press("Tab");
  }
}

/** What a text would do, had it come through: the page's policy lets none of it. */
async function attack(page) {
  const before = [seen.console.length, seen.requests.length];
  seen.attack = await page.evaluate(async () => {
    const violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "globalThis.ran = true";
    const image = document.createElement("img");
    image.src = "http://127.0.0.1:9/x.png";
    const frame = document.createElement("iframe");
    frame.src = "http://127.0.0.1:9/";
    document.body.append(script, image, frame);
    const fetched = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { ran: globalThis.ran === true, fetched, violations: violations.sort() };
  });
  seen.console.length = before[0];
  seen.attack.requests = seen.requests.splice(before[1]).filter((url) => url.startsWith("http"));
}

async function walk() {
  const page = await openPage({ width: 1200, height: 900 });
  seen.title = await page.title();
  seen.images = await page.$$eval("img:not(#large)", (images) => images.map((image) => [image.naturalWidth, image.naturalHeight]));
  await walkTiles(page);
  await walkViewer(page);
  await walkMap(page);
  await walkByKeyboard(page);
  seen.themes = { system: await colours(page) };
  for (const name of ["light", "dark", "auto"]) {
    await page.click("#theme");
    seen.themes[name] = await colours(page);
  }
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  seen.folded = await page.$$eval("details:not([open])", (folds) => folds.length);
  await attack(page);

  const phone = await openPage({ width: 390, height: 844, isMobile: true, scheme: "dark" });
  await phone.$$eval("details", (folds) => folds.forEach((fold) => { fold.open = true; }));
  seen.phone = { widths: await widths(phone), colours: await colours(phone) };
  seen.phone.small = await phone.$$eval("button, input, select", (all) => all.filter((element) => element.checkVisibility() && !element.matches(".shots, .plain") && element.getBoundingClientRect().height < 40).length);
  seen.phone.letters = await phone.$$eval("figure svg[viewBox] text", (texts) => Math.min(...texts.map((each) => each.getBoundingClientRect().height)));
  await phone.tap(".map .cell:last-of-type");
  seen.phone.layer = await text(phone, ".reader");
  await phone.tap(".shots");
  seen.phone.viewer = { widths: await widths(phone), open: await phone.$eval("#viewer", (viewer) => viewer.open) };

  const plain = await openPage({ width: 800, height: 600, script: false });
  const session = await plain.createCDPSession();
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  seen.plain = { roles: nodes.map((node) => node.role?.value).filter((role) => ["heading", "img", "image", "searchbox", "combobox", "row"].includes(role)) };
}

const deadline = new Promise((_, reject) => setTimeout(() => reject(new Error("the walk did not end in time")), 60_000));
try {
  await Promise.race([deadline, walk()]);
} catch (error) {
  seen.failure = error.stack;
}
browser.process().kill();
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
