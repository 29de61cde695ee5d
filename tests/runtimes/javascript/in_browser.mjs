// node in_browser.mjs PAGE JOBS.json SECONDS [FLAG...]: results of a page in headless Chromium, within so long, on standard output.
import { readFileSync } from "node:fs";

import { launchChromium } from "./chromium.mjs";

const [page, jobs, seconds, ...flags] = process.argv.slice(2);
const browser = await launchChromium("node_modules", ["--disable-gpu-sandbox", ...flags], { protocolTimeout: 1000 * (seconds - 10) });
try {
  const tab = await browser.newPage();
  const complaints = [];
  tab.on("pageerror", (error) => complaints.push(String(error)));
  tab.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await tab.goto(page);
  await tab.waitForFunction("globalThis.run", { timeout: 30000 }).catch((error) => {
    throw new Error(`${error.message}: ${complaints.join("; ")}`);
  });
  const results = await tab.evaluate((list) => globalThis.run(list), JSON.parse(readFileSync(jobs, "utf8")));
  process.stdout.write(JSON.stringify({ browser: await browser.version(), isolated: await tab.evaluate("crossOriginIsolated"), results, complaints }));
} finally {
  await browser.close();
}
