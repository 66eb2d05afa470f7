// A tab that is killed while it trains loses nothing: the same adapter in the end, to the bit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromiumOnly, inFirefox, kill, launch, open, url } from "./browser.mjs";
import { proxy, tampered } from "./proxy.mjs";
import { downloads, epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** Firefox's software GPU is the slower one. */
const EPOCHS = inFirefox ? 3 : 8;

async function start(page) {
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page, { epochs: EPOCHS });
  await part(page, "start").and(page.locator(":enabled")).click();
}

/** What the training came to: the adapter's bytes and the figures. */
async function outcome(page) {
  await part(page, "screen-results").waitFor();
  const figures = [];
  for (const name of ["stat-f1", "stat-auc"]) figures.push(await part(page, name).locator(".number").textContent());
  await go(page, "use");
  const files = await downloads(page, 2, () => part(page, "export-peft").click());
  const adapter = files.find((file) => file.name.endsWith(".safetensors"));
  return { figures, adapter: readFileSync(adapter.path).toString("base64") };
}

/** 200 rows, of which 40 test and 32 validate; the rest learn in batches of 8. */
const STEPS_PER_EPOCH = 16;

/** The first step that the page shows of a training. */
async function firstStep(page) {
  const shown = await page.waitForFunction(() => {
    const words = document.querySelector('[data-test="step-train"] .standing')?.textContent ?? "";
    return Number(/^step (\d+) of/.exec(words)?.[1]) || undefined;
  });
  return shown.jsonValue();
}

test("a tab killed while it trains", async () => {
  const whole = await open(browser);
  await start(whole.page);
  const expected = await outcome(whole.page);
  await whole.context.close();

  const { context, page } = await open(browser);
  await start(page);
  await epochs(page, 2);
  await kill(context, page);
  const next = await context.newPage();
  await next.goto(url);
  await loadModel(next);
  await go(next, "train");
  await next.locator('[data-test^="resume-"]:enabled').click();
  // it resumes where it was, at least where the second epoch ended, and does not begin anew
  const step = await firstStep(next);
  assert.ok(step >= 2 * STEPS_PER_EPOCH, `resumed at step ${step}`);
  const found = await outcome(next);
  assert.deepEqual(found.figures, expected.figures);
  assert.ok(found.adapter === expected.adapter, "the adapters differ");
  await context.close();
});

/** The training code that the kept run was begun with. */
const trainingCode = (page) => page.evaluate(async () => {
  const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle("runs");
  for await (const run of runs.values()) {
    for (const slot of ["snapshot-0", "snapshot-1"]) {
      const bytes = await (await (await run.getFileHandle(slot)).getFile()).arrayBuffer();
      if (bytes.byteLength === 0) continue;
      const length = Number(new DataView(bytes).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(bytes.slice(8, 8 + length)));
      return JSON.parse(header.__metadata__.hearth_snapshot).identity.build;
    }
  }
});

test("a run of an older build says that it cannot be resumed, and is ended with its best", async () => {
  let code;
  const host = await proxy({
    change: (path, headers, body) => {
      if (!code || !path.endsWith("worker_bg.wasm")) return undefined;
      const altered = Buffer.from(body.toString("latin1").replaceAll(code, code.split("").reverse().join("")), "latin1");
      assert.notDeepEqual(altered, body);
      return { headers, body: altered };
    },
  });
  const { context, page } = await open(browser, { serviceWorkers: "block" }, host.address);
  await start(page);
  await epochs(page, 2);
  await part(page, "pause").click();
  await page.locator('[data-test^="resume-"]:enabled').waitFor();
  assert.equal(await part(page, "not-resumed").count(), 0);
  code = await trainingCode(page);
  await page.reload();
  await loadModel(page);
  await go(page, "train");
  await part(page, "not-resumed").getByText("this build computes differently").waitFor();
  assert.ok(await page.locator('[data-test^="resume-"]').isDisabled());
  await page.locator('[data-test^="finish-"]:enabled').click();
  await part(page, "screen-results").waitFor();
  await context.close();
  await host.close();
});

/**
 * What the engine runs first: storage that is full from a named write on. `globalThis.fullFrom = { file, writes }`
 * lets so many writes to files whose names begin so through; from then on every write to any file fails.
 */
const fillable = `
  const { createSyncAccessHandle } = FileSystemFileHandle.prototype;
  const { write } = FileSystemSyncAccessHandle.prototype;
  const names = new WeakMap();
  FileSystemFileHandle.prototype.createSyncAccessHandle = async function (...options) {
    const handle = await createSyncAccessHandle.apply(this, options);
    names.set(handle, this.name);
    return handle;
  };
  globalThis.planted = [];
  FileSystemSyncAccessHandle.prototype.write = function (...all) {
    const plan = globalThis.fullFrom;
    const named = plan && names.get(this).startsWith(plan.file);
    if (plan && named && plan.writes-- <= 0) plan.full = true;
    if (plan?.full) {
      globalThis.planted.push(names.get(this));
      throw new DOMException("planted", "QuotaExceededError");
    }
    return write.apply(this, all);
  }`;

/** Storage is filled from inside the engine's worker. */
const inWorker = chromiumOnly("no other driver runs scripts in workers");
const engine = (page) => page.workers().find((worker) => worker.url().includes("worker_loader.js"));
const fullFrom = (page, plan) => engine(page).evaluate((plan) => { globalThis.fullFrom = plan; }, plan);
const planted = (page) => engine(page).evaluate(() => globalThis.planted);
const notices = async (page) => (await part(page, "notice").allTextContents()).join(" ");
const NOT_KEPT = /not stored in this browser: the browser's storage is full.*Export the classifier/;

let host;
before(async () => { host = await tampered("worker_loader.js", fillable); });
after(() => host?.close());

/** The page is ready to train; storage is full from this write on. */
async function ready(plan) {
  const { context, page } = await open(browser, {}, host.address);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page);
  await fullFrom(page, plan);
  return { context, page };
}
const begin = (page) => part(page, "start").and(page.locator(":enabled")).click();
const resume = (page) => page.locator('[data-test^="resume-"]:enabled').click();
async function pause(page) {
  await part(page, "pause").click();
  await page.locator('[data-test^="resume-"]:enabled').waitFor();
}

/** The run ends, its end says that it is not kept, and nothing of it is left. */
async function endsUnkept(context, page) {
  const found = await outcome(page);
  assert.ok(Number(found.figures[0]) > 0.9);
  assert.match(await notices(page), NOT_KEPT);
  assert.ok((await planted(page)).length > 0, "storage was never refused");
  const left = await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const runs = await root.getDirectoryHandle("runs", { create: true });
    return Array.fromAsync(runs.keys());
  });
  assert.deepEqual(left, []);
  await context.close();
}

test("storage is full at a run's first write", inWorker, async () => {
  const { context, page } = await ready({ file: "run", writes: 0 });
  await begin(page);
  await part(page, "notice").getByText("The run starts anyway").waitFor();
  await endsUnkept(context, page);
});

test("storage is full when the table is kept", inWorker, async () => {
  const { context, page } = await ready({ file: "data", writes: 0 });
  await begin(page);
  await part(page, "notice").getByText("The run starts anyway").waitFor();
  await endsUnkept(context, page);
});

test("storage is full at the first snapshot", inWorker, async () => {
  const { context, page } = await ready({ file: "snapshot", writes: 0 });
  await begin(page);
  await epochs(page, 1);
  await pause(page);
  assert.match(await notices(page), /storage is full.*The paused run is in this tab only/);
  await resume(page);
  await endsUnkept(context, page);
});

test("storage is full at a later snapshot", inWorker, async () => {
  const { context, page } = await ready(undefined);
  await begin(page);
  await epochs(page, 1);
  await pause(page);
  assert.doesNotMatch(await notices(page), /storage is full/);
  await fullFrom(page, { file: "snapshot", writes: 0 });
  await resume(page);
  await epochs(page, 2);
  await pause(page);
  assert.match(await notices(page), /storage is full.*The paused run is in this tab only/);
  await resume(page);
  await endsUnkept(context, page);
});

test("storage is full at the last write", inWorker, async () => {
  const { context, page } = await ready({ file: "classifier", writes: 0 });
  await begin(page);
  await endsUnkept(context, page);
});

test("a run that is kept in the end does not say that it is not", inWorker, async () => {
  const { context, page } = await ready(undefined);
  await begin(page);
  await outcome(page);
  assert.doesNotMatch(await notices(page), /not stored|storage is full/);
  await context.close();
});
