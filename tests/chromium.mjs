// Chromium for tests of pages, from the packages that the JavaScript package's tests have.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export async function launchChromium(nodeModules) {
  const require = createRequire(`${nodeModules}/`);
  const load = async (name) => (await import(pathToFileURL(require.resolve(name)).href)).default;
  const chromium = await load("@sparticuz/chromium");
  const puppeteer = await load("puppeteer-core");
  return puppeteer.launch({
    executablePath: await chromium.executablePath(),
    headless: "shell",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}
