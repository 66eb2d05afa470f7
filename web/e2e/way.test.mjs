// The whole way of a user with a model that learns: load, data, train, threshold, use, take along, come back.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { inFirefox, launch, open, url as shared } from "./browser.mjs";
import { classify, complaints, downloads, figure, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

/** Milliseconds of processor time that a task may take on the page's thread; 50 is what is meant. */
const LONGEST = 100;
/** Milliseconds of processor time that the work below takes on the machine on which LONGEST was found. */
const REFERENCE = 12;

/**
 * Milliseconds of processor time that each task takes on the page's thread meanwhile. Unlike the clock, it does not
 * tell what else the machine had to do.
 */
async function tasksOf(page, work) {
  await browser.startTracing(page, { categories: ["toplevel"] });
  await work();
  const { traceEvents } = JSON.parse(await browser.stopTracing());
  const threads = traceEvents.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain");
  const onPage = ({ pid, tid }) => threads.some((thread) => thread.pid === pid && thread.tid === tid);
  // the one that ends the trace has no end in it
  const isWhole = ({ name, ph }) => name === "ThreadControllerImpl::RunTask" && ph === "X";
  const tasks = traceEvents.filter((event) => isWhole(event) && onPage(event));
  const times = tasks.map(({ tdur, dur }) => Math.round((tdur ?? dur) / 1000));
  assert.ok(times.length > 0 && times.every(Number.isFinite), `${times}`);
  return times;
}

/** How much slower than there this thread is just now: the same work, many times. */
async function slowness(page) {
  const tasks = await tasksOf(page, () => page.evaluate(async () => {
    for (let run = 0; run < 40; run++) {
      let text = "";
      for (let i = 0; i < 20_000; i++) text = JSON.stringify({ i, text: text.slice(0, 20) });
      await new Promise((resolve) => setTimeout(resolve));
    }
  }));
  return Math.max(1, Math.max(...tasks) / REFERENCE);
}

/** A server of this test's own, whose requests are written to HEARTH_REQUESTS. */
const url = process.env.HEARTH_URL_COUNTED ?? shared;

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** The predictions of the second table, as the page saves them. */
async function predictions(page) {
  await go(page, "use");
  const [file] = await downloads(page, 1, () => classify(page, fixture("more-moods.csv")));
  return readFileSync(file.path, "utf8");
}

test("from a model to a classifier and back", async () => {
  const { context, page, errors, foreign } = await open(browser, {}, url);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  // quoted line breaks and semicolons are no rows and no columns
  assert.match(await part(page, "data-facts").textContent(), /200 rows, 3 columns/);
  await fillRecipe(page);

  // every request of page, workers and service worker, as the browser has it
  const asked = [];
  context.on("request", (request) => request.url().startsWith("blob:") || asked.push(request.url()));
  const before = readFileSync(process.env.HEARTH_REQUESTS ?? "/dev/null", "utf8").length;
  const train = async () => {
    await part(page, "start").click();
    await part(page, "loss-curve").waitFor();
    await part(page, "screen-results").waitFor();
  };
  if (inFirefox) {
    await train();
  } else {
    // what holds the page up for longer than a glance is noticed
    const long = (await tasksOf(page, train)).filter((task) => task > 50);
    const slower = await slowness(page);
    console.log(`# this machine is ${slower.toFixed(1)} times slower just now than where ${LONGEST} ms were found`);
    console.log(`# tasks over 50 ms on the page's thread while training: ${JSON.stringify(long)}`);
    assert.deepEqual(long.filter((task) => task > LONGEST * slower), [], `tasks over 50 ms: ${long}`);
  }

  const untrained = part(page, "zero-shot").locator("tr", { hasText: "ROC-AUC" }).locator("td");
  assert.ok(Number(await untrained.first().textContent()) < 0.65);
  assert.ok((await figure(page, "stat-f1")) > 0.9);
  assert.ok((await figure(page, "stat-auc")) > 0.95);

  // the threshold moves the matrix at once
  const cell = (truth, said) => part(page, `cell-${truth}-${said}`).locator(".count");
  await part(page, "threshold").fill("1");
  assert.equal(await cell(0, 0).textContent(), "20");
  assert.equal(await cell(1, 1).textContent(), "0");
  assert.equal(await part(page, "moving-recall").locator(".number").textContent(), "0.000");
  await part(page, "cell-1-0").click();
  assert.equal(await part(page, "cell-rows").locator("tbody tr").count(), 20);
  await part(page, "threshold").fill("0.5");
  assert.ok(Number(await part(page, "moving-f1").locator(".number").textContent()) > 0.9);

  await go(page, "use");
  await part(page, "try-text").fill("what a lovely day");
  await part(page, "try-result").getByText("happy").waitFor();
  const first = await predictions(page);
  assert.equal(first.trim().split("\n").length > 40, true);
  assert.match(first, /"=1\+1/, "texts come back as they were");
  assert.doesNotMatch(first, /'=/);
  await part(page, "for-spreadsheets").check();
  assert.match(await predictions(page), /"'=1\+1/, "formulas are disarmed where asked");
  await part(page, "for-spreadsheets").uncheck();
  const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
  assert.match(bundle.name, /\.hearth$/);
  const adapter = await downloads(page, 2, () => part(page, "export-peft").click());
  assert.deepEqual(adapter.map((file) => file.name).sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  const [report] = await downloads(page, 1, () => part(page, "export-report").click());
  assert.match(readFileSync(report.path, "utf8"), /default-src 'none'/);
  assert.deepEqual(await complaints(page), []);

  // the server saw nothing of all that; the browser's own checks for a newer page are told apart from requests
  // of the page, and are kept from coming in the middle of somebody's work
  if (process.env.HEARTH_REQUESTS) {
    const lines = readFileSync(process.env.HEARTH_REQUESTS, "utf8").slice(before).split("\n").filter(Boolean);
    const checks = lines.filter((line) => line === "GET /service-worker.js");
    assert.deepEqual(lines.filter((line) => !checks.includes(line)), []);
    assert.deepEqual(checks, [], "the browser checked for a newer page");
  }
  assert.deepEqual(asked, []);
  await part(page, "privacy").locator("summary").click();
  assert.equal(await part(page, "requests").textContent(), "0");

  // another visit: the model from storage, the classifier from its file, the same answers
  await page.goto(url);
  await loadModel(page);
  await go(page, "use");
  await page.locator("#bundle-drop").setInputFiles({
    name: bundle.name, mimeType: "application/octet-stream", buffer: readFileSync(bundle.path),
  });
  await part(page, "classifier").waitFor();
  assert.equal(await predictions(page), first);
  assert.deepEqual(errors, []);
  assert.deepEqual(foreign, []);
  await context.close();
});
