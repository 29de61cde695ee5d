// Walks through the demo page in Chromium and prints what it saw, as JSON; tests/demo/test_page.py says what it has to be.
//
//   node walk_page.mjs NODE_MODULES URL DOWNLOADS      the word "offline" on stderr asks for the server's end; a line on stdin answers
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { launchChromium } from "../chromium.mjs";

const [nodeModules, url, downloads] = process.argv.slice(2);
const browser = await launchChromium(nodeModules);
const seen = { console: [], requests: [], violations: [] };
const PATIENCE = { timeout: 90_000 };

async function openPage(address, { width, height, isMobile = false }) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`exception: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.exposeFunction("reportViolation", (text) => seen.violations.push(text));
  await page.evaluateOnNewDocument(() => {
    addEventListener("securitypolicyviolation", (event) => self.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.setViewport({ width, height, isMobile, hasTouch: isMobile, deviceScaleFactor: isMobile ? 2 : 1 });
  await page.goto(address);
  await drawn(page);
  return page;
}

/** Wait until a picture of what the form says is shown, and nothing is about to be drawn. */
async function drawn(page, change = "") {
  await page.waitForFunction(
    (before) => document.getElementById("frame").dataset.state === "shown"
      && (before === "" || document.getElementById("picture").getAttribute("aria-label") !== before),
    PATIENCE, change,
  );
}

const label = (page) => page.$eval("#picture", (canvas) => canvas.getAttribute("aria-label"));
const value = (page, id) => page.$eval(`#${id}`, (element) => element.value);
const text = (page, id) => page.$eval(`#${id}`, (element) => element.textContent);
const kept = (page) => page.$$eval("#gallery button", (buttons) => buttons.map((button) => button.getAttribute("aria-label")));
const pixels = (page) => page.$eval("#picture", (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return btoa(String.fromCharCode(...data));
});

/** Press Tab until the focus is back at the page's begin: what was reached, and whether one could see it. */
async function walkByKeyboard(page) {
  await page.focus("#theme"); // the first
  await page.keyboard.press("Tab");
  await page.keyboard.down("Shift");
  await page.keyboard.press("Tab");
  await page.keyboard.up("Shift");
  const reached = [];
  for (let i = 0; i < 60; i++) {
    const found = await page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) {
        return null;
      }
      const shown = element.type === "radio" ? element.nextElementSibling : element;
      const style = getComputedStyle(shown);
      const isVisible = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
      const name = element.id || element.name || element.getAttribute("aria-label") || element.textContent;
      const { labels, title } = element;
      const isNamed = Boolean(element.getAttribute("aria-label") || labels?.length || element.textContent.trim() || title);
      return { name, isVisible, isNamed };
    });
    if (found === null) {
      break;
    }
    reached.push(found);
    await page.keyboard.press("Tab");
  }
  return reached;
}

/** All that one could press or fill, by the same names. */
const listControls = (page) => page.$$eval("button, input, textarea, select, summary, a[href]", (elements) => elements
  .filter((element) => !element.disabled && element.checkVisibility())
  .map((element) => element.id || element.name || element.getAttribute("aria-label") || element.textContent));

async function replacePrompt(page, words) {
  const before = await label(page);
  await page.click("#prompt", { count: 3 });
  await page.keyboard.press("Backspace");
  await page.type("#prompt", words, { delay: 5 });
  await page.waitForFunction((wanted) => document.getElementById("picture").getAttribute("aria-label") === wanted, PATIENCE,
    `Picture of: ${words.trim()}`);
  return before;
}

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

const deadline = new Promise((_, reject) => setTimeout(() => reject(new Error("the walk did not end in time")), 240_000));
try {
  await Promise.race([deadline, walkPhone().then(walkDesktop)]);
} catch (error) {
  seen.failure = error.stack;
}
browser.process().kill();
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
