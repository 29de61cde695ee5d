// Chromium for tests of pages, from the packages that the JavaScript package's tests have.
import { mkdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

/** A package's default export. */
async function load(nodeModules, name) {
  const { resolve } = createRequire(join(realpathSync(nodeModules), "any.js"));
  return (await import(pathToFileURL(resolve(name)).href)).default;
}

/** The path of the browser of these packages. It unpacks itself once into the system's temporary folder, whatever version lies there: so it
 * gets a folder of its own, beside the packages.
 */
export async function findChromium(nodeModules) {
  const folder = join(dirname(dirname(realpathSync(join(nodeModules, "@sparticuz")))), "browser");
  mkdirSync(folder, { recursive: true });
  const { TMPDIR } = process.env;
  process.env.TMPDIR = folder;
  const path = await (await load(nodeModules, "@sparticuz/chromium")).executablePath();
  if (TMPDIR === undefined) {
    delete process.env.TMPDIR;
  } else {
    process.env.TMPDIR = TMPDIR;
  }
  return path;
}

export async function launchChromium(nodeModules, flags = ["--disable-gpu", "--disable-dev-shm-usage"], options = {}) {
  const puppeteer = await load(nodeModules, "puppeteer-core");
  const executablePath = await findChromium(nodeModules);
  return puppeteer.launch({ executablePath, headless: "shell", args: ["--no-sandbox", ...flags], ...options });
}
