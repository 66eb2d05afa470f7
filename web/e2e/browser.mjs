// A headless browser with WebGPU in software: Chromium on SwiftShader, as ../../webdriver.json starts it, or, where
// HEARTH_BROWSER is "firefox", the installed Firefox on the system's Vulkan driver. The same tests run in both.

import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, firefox } from "playwright-core";

const webdriver = JSON.parse(readFileSync(new URL("../../webdriver.json", import.meta.url)));

/** Where `cargo xtask` serves the page. */
export const url = process.env.HEARTH_URL ?? "http://127.0.0.1:8080/";

/** Whether the tests run in Firefox. */
export const inFirefox = process.env.HEARTH_BROWSER === "firefox";

/** What the page says of the software GPU. Firefox tells no name of it. */
export const GPU = inFirefox ? /Uses this computer's GPU|Software renderer/ : /swiftshader/i;

/** Options of a test that runs in Chromium only, and why. */
export const chromiumOnly = (why) => ({ skip: inFirefox && why });

/**
 * Milliseconds that any one wait may take. Tests wait for states of the page and never for time, so this is far
 * more than the slowest machine needs; it only ends a test whose state never comes.
 */
export const PATIENCE = 300_000;

/** How much slower than it is the page's processor is made, to find tests that depend on its speed. */
const THROTTLE = Number(process.env.HEARTH_THROTTLE ?? 1);

const common = webdriver["goog:chromeOptions"].args;

const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";

/** Marks the processes of each browser that is started, to find those of its tabs. */
const MARK = "HEARTH_BROWSER_MARK";
const marks = new WeakMap();

const folders = new WeakMap();
/** Where Firefox puts what a page downloads; its driver does not hear of files that come without a request. */
export const downloadFolder = (page) => folders.get(page.context().browser());

/** Starts a browser that keeps what it stores in `folder`, and gives its one context. */
export async function stay(folder, options = {}) {
  const context = await chromium.launchPersistentContext(folder, { executablePath, args: common, ...options });
  return patient(context);
}

/** Waits long in this context, and slows its pages down where that is asked for. */
function patient(context) {
  context.setDefaultTimeout(PATIENCE);
  if (THROTTLE > 1 && !inFirefox) context.on("page", (page) => throttle(context, page).catch(() => undefined));
  return context;
}

async function throttle(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: THROTTLE });
}

/** Starts the browser; without `webgpu` as one that has no GPU to offer. */
export function launch({ webgpu = true } = {}) {
  if (inFirefox) return launchFirefox({ webgpu });
  return chromium.launch({
    executablePath,
    args: webgpu ? common : common.filter((argument) => !argument.includes("webgpu")),
  });
}

/** Starts Firefox without what its driver sets: that it ends with the first tab that crashes. */
function starter() {
  const path = join(mkdtempSync(join(tmpdir(), "hearth-firefox-")), "firefox");
  const program = process.env.FIREFOX || "/usr/bin/firefox-esr";
  writeFileSync(path, `#!/bin/sh\nunset MOZ_CRASHREPORTER_SHUTDOWN\nexec '${program}' "$@"\n`, { mode: 0o755 });
  return path;
}

/**
 * Starts the installed Firefox, driven by WebDriver BiDi (Playwright 1.65 asks of it what Firefox 153 does not know);
 * without `workers` as one that has no service workers.
 */
async function launchFirefox({ webgpu = true, workers = true }) {
  const mark = randomUUID();
  const downloadsPath = mkdtempSync(join(tmpdir(), "hearth-downloads-"));
  const browser = await firefox.launch({
    channel: "moz-firefox",
    executablePath: starter(),
    downloadsPath,
    env: { ...process.env, [MARK]: mark },
    firefoxUserPrefs: {
      "dom.webgpu.enabled": webgpu,
      "dom.webgpu.workers.enabled": webgpu,
      // a GPU in software is on the list
      "gfx.webgpu.ignore-blocklist": true,
      "dom.serviceWorkers.enabled": workers,
      // pages that the browser opens by itself
      "browser.aboutwelcome.enabled": false,
      "network.captive-portal-service.enabled": false,
    },
  });
  marks.set(browser, mark);
  folders.set(browser, downloadsPath);
  return browser;
}

/**
 * Opens the page in a fresh context and keeps account of what must not happen: errors on the console of
 * page and workers, and requests to any other place.
 */
export async function open(browser, options = {}, address = url) {
  // Firefox blocks service workers for all of its contexts or for none
  const own = inFirefox && options.serviceWorkers === "block" ? await launchFirefox({ workers: false }) : undefined;
  const context = patient(await (own ?? browser).newContext(own ? {} : options));
  if (own) context.on("close", () => own.close());
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

/** The page's workers in which scripts can be run: Firefox's driver lists them, and runs none. */
export const workersToAsk = (page) => inFirefox ? [] : page.workers();

/** Kills a tab as a system does that runs out of memory. In Firefox, all tabs of the browser. */
export async function kill(context, page) {
  if (inFirefox) {
    const mark = marks.get(context.browser());
    return tabs(mark).forEach((tab) => process.kill(tab, "SIGKILL"));
  }
  const devtools = await context.newCDPSession(page);
  const gone = page.waitForEvent("crash");
  devtools.send("Page.crash").catch(() => undefined);
  await gone;
}

/** The processes that run the tabs of the browser with this mark. */
function tabs(mark) {
  const read = (process, file) => {
    try {
      return readFileSync(`/proc/${process}/${file}`, "utf8").split("\0").filter(Boolean);
    } catch {
      // it ended meanwhile
      return [];
    }
  };
  return readdirSync("/proc").filter(Number).filter((process) =>
    read(process, "environ").includes(`${MARK}=${mark}`) && read(process, "cmdline").at(-1) === "tab").map(Number);
}
