// Opens a page of many devices in Chromium, on a desk and on a phone in the dark, and prints what it saw, as JSON.
//
//   node walk_devices.mjs NODE_MODULES FILE
import { pathToFileURL } from "node:url";
import { launchChromium } from "../../chromium.mjs";

const [nodeModules, file] = process.argv.slice(2);
const browser = await launchChromium(nodeModules);
const seen = { console: [], requests: [], widths: [], labels: [], pictures: [] };
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
  seen.labels.push(await page.$$eval("#part-0 tbody th", (cells) => cells.map((cell) => cell.textContent)));
  seen.pictures.push(await page.$$eval(".devices img", (images) => images.map((image) => image.naturalWidth)));
}
await browser.close();
console.log(JSON.stringify(seen));
