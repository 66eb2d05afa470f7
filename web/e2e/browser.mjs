// A headless Chromium with WebGPU on its software rasterizer, as ../../webdriver.json starts it.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const webdriver = JSON.parse(readFileSync(new URL("../../webdriver.json", import.meta.url)));

/** Where `cargo xtask` serves the page. */
export const url = process.env.HEARTH_URL ?? "http://127.0.0.1:8080/";

/**
 * Milliseconds that any one wait may take. Tests wait for states of the page and never for time, so this is far
 * more than the slowest machine needs; it only ends a test whose state never comes.
 */
export const PATIENCE = 300_000;

/** How much slower than it is the page's processor is made, to find tests that depend on its speed. */
const THROTTLE = Number(process.env.HEARTH_THROTTLE ?? 1);

const common = webdriver["goog:chromeOptions"].args;

const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";

/** Starts a browser that keeps what it stores in `folder`, and gives its one context. */
export async function stay(folder, options = {}) {
  const context = await chromium.launchPersistentContext(folder, { executablePath, args: common, ...options });
  return patient(context);
}

/** Waits long in this context, and slows its pages down where that is asked for. */
function patient(context) {
  context.setDefaultTimeout(PATIENCE);
  if (THROTTLE > 1) context.on("page", (page) => throttle(context, page).catch(() => undefined));
  return context;
}

async function throttle(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: THROTTLE });
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
  const context = patient(await browser.newContext(options));
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
