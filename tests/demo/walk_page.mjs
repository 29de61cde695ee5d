// Walks through the demo page in Chromium and prints what it saw, as JSON; tests/demo/test_page.py says what it has to be.
//
//   node walk_page.mjs NODE_MODULES URL DOWNLOADS      the word "offline" on stderr asks for the server's end; a line on stdin answers
import { once } from "node:events";
import { readdirSync } from "node:fs";

import { PATIENCE, browser, drawn, kept, label, listControls, openPage, pixels, replacePrompt, seen, text, value, walk, walkByKeyboard } from "./page_tools.mjs";

const [nodeModules, url, downloads] = process.argv.slice(2);

async function walkDesktop() {
  const page = await openPage(`${url}#prompt=a+red+circle&seed=3&steps=1`, { width: 1200, height: 900 });
  seen.first = { label: await label(page), pixels: await pixels(page), isIsolated: await page.evaluate(() => crossOriginIsolated) };
  seen.figures = { total: await text(page, "total"), parts: await text(page, "parts"), where: await text(page, "where") };
  await replacePrompt(page, "a large blue square on the right");
  await replacePrompt(page, "a red armadillo");
  seen.unknown = await text(page, "message");
  await replacePrompt(page, "a large blue square on the right");
  seen.known = await text(page, "message");
  seen.typed = { label: await label(page), pixels: await pixels(page), address: await page.evaluate(() => location.hash) };
  seen.keptByTyping = await kept(page);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#gallery button", PATIENCE);
  await walkSeeds(page);
  await walkGallery(page);
  await walkHostile(page);
  seen.reached = await walkByKeyboard(page);
  seen.controls = await listControls(page);
  await compare(page);
  await measure(page);
  await walkOffline(page);
}

async function walkSeeds(page) {
  const before = await pixels(page);
  await page.focus("#dice");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("caption").textContent.startsWith(`seed ${document.getElementById("seed").value},`), PATIENCE);
  seen.rolled = { seed: await value(page, "seed"), isOther: (await pixels(page)) !== before };
  await page.focus("#keep");
  await page.keyboard.press("Space");
  await page.waitForFunction(() => document.querySelectorAll("#gallery button").length === 2, PATIENCE);
  seen.kept = await kept(page);
}

async function walkGallery(page) {
  await page.focus("#gallery button");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("seed").value === "3", PATIENCE);
  await page.waitForFunction(() => document.getElementById("caption").textContent.includes("kept"), PATIENCE);
  seen.restored = { prompt: await value(page, "prompt"), seed: await value(page, "seed"), pixels: await pixels(page) };
  await page.keyboard.press("Escape");
  seen.escaped = await page.evaluate(() => document.activeElement.id);
  const session = await browser.target().createCDPSession();
  const browserContextId = page.browserContext().id;
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: downloads, browserContextId });
  await page.click("#download");
  while (!readdirSync(downloads).some((name) => name.endsWith(".png"))) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  [seen.download] = readdirSync(downloads);
}

/** Text that would do something, were it taken for HTML. */
async function walkHostile(page) {
  await replacePrompt(page, '<img src=x onerror="document.title=1">');
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("#gallery button").length === 3, PATIENCE);
  seen.hostile = { images: await page.$$eval("img", (all) => all.map((image) => image.src.split(":")[0])), title: await page.title() };
}

async function compare(page) {
  await page.click("summary");
  await page.click("#check");
  await page.waitForFunction(() => document.querySelector("#check-result p"), PATIENCE);
  seen.check = await page.$$eval("#check-result p", (lines) => lines.map((line) => line.textContent));
}

/** A result by keyboard: its name is typed, the button pressed, the file saved. */
async function measure(page) {
  await page.focus("#device");
  await page.keyboard.type("Lab box 7");
  await page.keyboard.press("Tab");
  seen.measureReached = await page.evaluate(() => document.activeElement.id);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("check-result").textContent.includes("Saved as"), PATIENCE);
  seen.measured = await page.$$eval("#check-result p", (lines) => lines.map((line) => line.textContent));
  while (!readdirSync(downloads).some((name) => name.endsWith(".json"))) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  seen.result = readdirSync(downloads).find((name) => name.endsWith(".json"));
}

/** The server ends, the page is loaded again, and draws what it never drew before; then all pictures go. */
async function walkOffline(page) {
  await page.waitForFunction(() => document.getElementById("offline").textContent.startsWith("Works"), PATIENCE);
  process.stderr.write("offline\n");
  await once(process.stdin, "data");
  const errors = seen.console.length;
  await page.reload();
  await drawn(page);
  await replacePrompt(page, "a small green triangle on the left");
  seen.offline = { kept: await kept(page), label: await label(page), pixels: await pixels(page), console: seen.console.splice(errors) };
  await page.click("#clear");
  seen.asked = await text(page, "clear");
  await page.click("#clear");
  await page.waitForFunction(() => document.querySelectorAll("#gallery button").length === 0, PATIENCE);
  await page.reload();
  await drawn(page);
  seen.cleared = await kept(page);
}

async function walkPhone() {
  const page = await openPage(url, { width: 360, height: 740, isMobile: true });
  await page.tap("#keep");
  await page.waitForSelector("#gallery button", PATIENCE);
  await page.tap("summary");
  seen.phone = await page.evaluate(() => ({ page: document.documentElement.scrollWidth, screen: innerWidth,
    small: [...document.querySelectorAll("button, select, input[type=number]")].filter((element) => element.checkVisibility()
      && element.getBoundingClientRect().height < 40).map((element) => element.id || element.textContent) }));
  await page.tap("#suggestions button:nth-child(2)");
  await drawn(page);
  seen.phone.label = await label(page);
  seen.phone.wanted = await page.$eval("#suggestions button:nth-child(2)", (button) => button.textContent);
}

await walk(nodeModules, 240, () => walkPhone().then(walkDesktop));
