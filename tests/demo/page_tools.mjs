// What walks through the demo page share: a page that tells what happens on it, and what one sees there.
import { launchChromium } from "../chromium.mjs";

export const PATIENCE = { timeout: 90_000 };

/** What one saw; a browser's pages add to the first three. */
export const seen = { console: [], requests: [], violations: [] };
export let browser = null;

/** Walk in a browser, within so many seconds, and print what was seen as JSON. */
export async function walk(nodeModules, seconds, act) {
  browser = await launchChromium(nodeModules);
  const deadline = new Promise((_, reject) => setTimeout(() => reject(new Error("the walk did not end in time")), 1000 * seconds));
  try {
    await Promise.race([deadline, act()]);
  } catch (error) {
    seen.failure = error.stack;
  }
  browser.process().kill();
  process.stdout.write(JSON.stringify(seen), () => process.exit(0));
}

export async function openPage(address, { width, height, isMobile = false }) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`exception: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.exposeFunction("reportViolation", (text) => seen.violations.push(text));
  await page.evaluateOnNewDocument(() => {
    // A machine that is busy elsewhere is too slow for drawing at every change, and the page would end it.
    addEventListener("DOMContentLoaded", () => {
      const live = document.getElementById("live");
      return live && Object.defineProperty(live, "checked", { get: () => true, set: () => {} });
    });
    addEventListener("securitypolicyviolation", (event) => self.reportViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.setViewport({ width, height, isMobile, hasTouch: isMobile, deviceScaleFactor: isMobile ? 2 : 1 });
  await page.goto(address);
  await drawn(page);
  return page;
}

/** Wait until a picture of what the form says is shown, and nothing is about to be drawn. */
export async function drawn(page, change = "") {
  await page.waitForFunction(
    (before) => document.getElementById("frame").dataset.state === "shown" && document.getElementById("frame").ariaBusy !== "true"
      && (before === "" || document.getElementById("picture").getAttribute("aria-label") !== before),
    PATIENCE, change,
  );
}

export const label = (page) => page.$eval("#picture", (canvas) => canvas.getAttribute("aria-label"));
export const value = (page, id) => page.$eval(`#${id}`, (element) => element.value);
export const text = (page, id) => page.$eval(`#${id}`, (element) => element.textContent);
export const kept = (page) => page.$$eval("#gallery button", (buttons) => buttons.map((button) => button.getAttribute("aria-label")));
export const pixels = (page) => page.$eval("#picture", (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return btoa(String.fromCharCode(...data));
});

/** Press Tab until the focus is back at the page's begin: what was reached, and whether one could see it. */
export async function walkByKeyboard(page) {
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
export const listControls = (page) => page.$$eval("button, input, textarea, select, summary, a[href]", (elements) => elements
  .filter((element) => !element.disabled && element.checkVisibility())
  .map((element) => element.id || element.name || element.getAttribute("aria-label") || element.textContent));

export async function replacePrompt(page, words) {
  const before = await label(page);
  await page.click("#prompt", { count: 3 });
  await page.keyboard.press("Backspace");
  await page.type("#prompt", words, { delay: 5 });
  await page.waitForFunction((wanted) => document.getElementById("picture").getAttribute("aria-label") === wanted, PATIENCE,
    `Picture of: ${words.trim()}`);
  return before;
}
