// A headless Chromium with WebGPU on its software rasterizer, as ../../webdriver.json starts it.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const webdriver = JSON.parse(readFileSync(new URL("../../webdriver.json", import.meta.url)));

/** Where `cargo xtask` serves the page. */
export const url = process.env.HEARTH_URL ?? "http://127.0.0.1:8080/";

const common = webdriver["goog:chromeOptions"].args;

const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";

/** Starts a browser that keeps what it stores in `folder`, and gives its one context. */
export function stay(folder, options = {}) {
  return chromium.launchPersistentContext(folder, { executablePath, args: common, ...options });
}

/** Starts the browser; without `webgpu` as one that has no GPU to offer. */
export function launch({ webgpu = true } = {}) {
  return chromium.launch({
    executablePath,
    args: webgpu ? common : common.filter((argument) => !argument.includes("webgpu")),
  });
}

/**
 * Opens the page in a fresh context and keeps account of what must not happen: errors on the console of
 * page and workers, and requests to any other place.
 */
export async function open(browser, options = {}, address = url) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const errors = [];
  const foreign = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  context.on("request", (request) => {
    if (!request.url().startsWith(address)) foreign.push(request.url());
  });
  await page.goto(address);
  return { context, page, errors, foreign };
}
