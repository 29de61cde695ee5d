// Opens a comparison in Chromium and prints what it saw, as JSON; test_in_browser.py says what it has to be.
//
//   node walk_comparison.mjs NODE_MODULES FILE
import { pathToFileURL } from "node:url";
import { launchChromium } from "../../chromium.mjs";

const [nodeModules, file] = process.argv.slice(2);
const browser = await launchChromium(nodeModules);
const seen = { console: [], requests: [], widths: [], paper: [] };
const listPlaces = (page) => page.$$eval(".tile", (tiles) => tiles.filter((tile) => tile.checkVisibility()).map((tile) => Number(tile.dataset.place)));

for (const [width, scheme] of [[1200, "light"], [390, "dark"]]) {
  const page = await browser.newPage();
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("dialog", (dialog) => { seen.console.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("pageerror", (error) => seen.console.push(`exception: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url().split(":")[0]));
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height: 844, isMobile: width < 500, hasTouch: width < 500 });
  await page.goto(pathToFileURL(file).href);
  seen.widths.push(await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]));
  seen.paper.push(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
  seen.labels = await page.$$eval(".tile:first-child .label", (labels) => labels.map((label) => label.textContent));
  seen.sizes = await page.$$eval(".shot img", (images) => images.map((image) => [image.naturalWidth, image.naturalHeight]));
  seen.alert = await page.$eval("[role=alert]", (alert) => alert.checkVisibility());
  seen.worst = await listPlaces(page);
  await page.select("#order", "place");
  seen.places = await listPlaces(page);
  await page.type("#search", "square");
  seen.found = await listPlaces(page);
  await page.$eval("#search", (field) => { field.value = ""; field.dispatchEvent(new Event("input")); });
  await page.$eval(".shots", (shots) => shots.click());
  seen.choices = await page.$$eval("#choices button", (buttons) => buttons.map((button) => button.textContent));
}
await browser.close();
console.log(JSON.stringify(seen));
