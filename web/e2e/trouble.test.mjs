// What goes wrong ends in words, and the app still works.

import assert from "node:assert/strict";
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { proxy, tampered } from "./proxy.mjs";
import { epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const engine = (page) => page.workers().find((worker) => worker.url().includes("worker_loader.js"));
const told = (page, words) => part(page, "notice").filter({ hasText: words }).first().waitFor();
/** The moods table is read and can be trained on. */
async function works(page) {
  await openTable(page, fixture("moods.csv"), "happy");
  assert.match(await part(page, "data-facts").textContent(), /200 rows/);
}
async function startTraining(page, settings) {
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page, settings);
  await part(page, "start").and(page.locator(":enabled")).click();
  await epochs(page, 1);
}
/** What an engine of another build says. */
const otherBuild = `
  const post = self.postMessage.bind(self);
  self.postMessage = (message) =>
    post(JSON.parse(JSON.stringify(message).replace(/(build[^0-9a-z]*)[0-9a-z]/, "$1#")));
`;
test("a table of 300 MB", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hearth-large-"));
  const path = join(folder, "large.csv");
  const file = createWriteStream(path);
  file.write("text,label\n");
  const line = (row) => `"row ${row}: ${"many words about nothing at all ".repeat(120)}",${row % 2 ? "happy" : "sad"}\n`;
  for (let row = 0, bytes = 0; bytes < 300e6; row++) {
    const text = line(row);
    bytes += text.length;
    if (!file.write(text)) await once(file, "drain");
  }
  file.end();
  await once(file, "close");
  const { context, page } = await open(browser);
  await loadModel(page);
  await go(page, "data");
  await page.locator("#data-drop").setInputFiles(path);
  const preview = part(page, "preview").waitFor().then(() => "read");
  const answer = await Promise.race([preview, told(page, /large\.csv/).then(() => "told")]);
  console.log(`# a table of 300 MB: ${answer}, ${await part(page, "notice").allTextContents()}`);
  await works(page);
  await context.close();
  rmSync(folder, { recursive: true });
});

test("a browser that keeps nothing", async () => {
  const refuse = 'navigator.storage.getDirectory = () => Promise.reject(new DOMException("no", "SecurityError"))';
  const host = await proxy({
    change: (path, headers, body) => /^\/(loader|worker)_loader\.js$/.test(path)
      ? { headers, body: Buffer.concat([Buffer.from(`${refuse};\n`), body]) } : undefined,
  });
  const { context, page } = await open(browser, {}, host.address);
  await loadModel(page);
  await works(page);
  assert.match((await part(page, "notice").allTextContents()).join(), /stores no files/);
  await context.close();
  await host.close();
});

test("no room left for the model", async () => {
  const { context, page } = await open(browser);
  await part(page, "load-tiny-gemma3").waitFor();
  const devtools = await context.newCDPSession(page);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: 1000 });
  await loadModel(page);
  await works(page);
  assert.match((await part(page, "notice").allTextContents()).join(), /storage is full|memory only/);
  await context.close();
});

/** Takes the training's snapshot file as soon as its owner lets go of it, and holds on to it for a while. */
const holdOn = (page) =>
  page.workers().find((worker) => worker.url().includes("loader_loader.js")).evaluate(async () => {
    const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle("runs");
    const take = async () => {
      for await (const run of runs.values()) {
        return (await run.getFileHandle("snapshot-0")).createSyncAccessHandle();
      }
    };
    for (;;) {
      const file = await take().catch(() => undefined);
      if (file) return void setTimeout(() => file.close(), 2000);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });

test("the engine breaks down while it trains", async () => {
  const { context, page } = await open(browser);
  await startTraining(page);
  await epochs(page, 2);
  // an ended worker may have its files a little longer than it lives
  const held = holdOn(page);
  await engine(page).evaluate(() => { setTimeout(() => { throw new Error("planted"); }); });
  await told(page, /planted/);
  await held;
  await go(page, "train");
  await page.locator('[data-test^="resume-"]:enabled').click();
  await part(page, "screen-results").waitFor();
  await context.close();
});

test("an engine that works in between is started anew as often as it breaks down", async () => {
  const { context, page } = await open(browser);
  await startTraining(page, { epochs: 200 });
  for (let time = 0; time < 5; time++) {
    await engine(page).evaluate((time) => { setTimeout(() => { throw new Error(`planted ${time}`); }); }, time);
    await told(page, `planted ${time}`);
    await go(page, "model");
    await part(page, "gpu-line").getByText(/swiftshader/i).waitFor();
    await go(page, "train");
    await page.locator('[data-test^="resume-"]:enabled').click();
    await part(page, "step-train").getByText(/step \d+ of/).waitFor();
  }
  await context.close();
});

test("the graphics processor is lost while it trains", async () => {
  const host = await tampered("worker_loader.js", `
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...all) {
      return globalThis.planted = await request.apply(this, all);
    }`);
  const { context, page } = await open(browser, {}, host.address);
  await startTraining(page);
  await engine(page).evaluate(() => globalThis.planted.destroy());
  await told(page, /GPU was lost/);
  await go(page, "train");
  await page.locator('[data-test^="resume-"]:enabled').click();
  await part(page, "screen-results").waitFor();
  await context.close();
  await host.close();
});

test("the graphics processor has no memory left", async () => {
  const host = await tampered("worker_loader.js", `
    const create = GPUDevice.prototype.createBuffer;
    GPUDevice.prototype.createBuffer = function (...all) {
      const error = new GPUOutOfMemoryError("planted");
      if (globalThis.full) this.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
      return create.apply(this, all);
    }`);
  const { context, page } = await open(browser, {}, host.address);
  await part(page, "load-tiny-gemma3").waitFor();
  await part(page, "gpu-line").getByText(/swiftshader/i).waitFor();
  await engine(page).evaluate(() => { globalThis.full = true; });
  await part(page, "load-tiny-gemma3").click();
  await told(page, /memory/);
  await engine(page).evaluate(() => { globalThis.full = false; });
  await loadModel(page);
  await works(page);
  await context.close();
  await host.close();
});

test("page and worker of different builds", async () => {
  let old = true;
  const host = await proxy({
    change: (path, headers, body) => old && path === "/worker_loader.js"
      ? { headers, body: Buffer.concat([Buffer.from(otherBuild), body]) } : undefined,
  });
  const { context, page } = await open(browser, { serviceWorkers: "block" }, host.address);
  await told(page, /[Rr]eload the page/);
  old = false;
  await page.reload();
  await loadModel(page);
  await works(page);
  await context.close();
  await host.close();
});

test("a second tab", async () => {
  const { context, page } = await open(browser);
  await startTraining(page, { epochs: 200 });
  const second = await context.newPage();
  await second.goto(page.url());
  await loadModel(second);
  await works(second);
  // the run is not interrupted: it trains in the first tab, and is left alone here
  await go(second, "train");
  await part(second, "unfinished").getByText(/^Training in another tab/).waitFor();
  await part(second, "elsewhere").getByText("Pause or stop it there").waitFor();
  for (const button of ["resume-", "finish-", "delete-"]) {
    assert.ok(await part(second, "unfinished").locator(`[data-test^="${button}"]`).isDisabled(), button);
  }
  // once it is paused there, it can be resumed here
  await part(page, "pause").click();
  await part(second, "unfinished").getByText(/^Paused/).waitFor();
  await second.locator('[data-test^="resume-"]:enabled').click();
  await epochs(second, 2);
  await part(second, "stop").click();
  await part(second, "screen-results").waitFor();
  await context.close();
});
