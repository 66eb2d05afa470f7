// A tab that is killed while it trains loses nothing: the same adapter in the end, to the bit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, open, url } from "./browser.mjs";
import { downloads, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

async function start(page) {
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page);
  await part(page, "start").and(page.locator(":enabled")).click();
}

/** What the training came to: the adapter's bytes and the figures. */
async function outcome(page) {
  await part(page, "screen-results").waitFor({ timeout: 240_000 });
  const figures = [];
  for (const name of ["stat-f1", "stat-auc"]) figures.push(await part(page, name).locator(".number").textContent());
  await go(page, "use");
  const files = await downloads(page, 2, () => part(page, "export-peft").click());
  const adapter = files.find((file) => file.name.endsWith(".safetensors"));
  return { figures, adapter: readFileSync(adapter.path).toString("base64") };
}

test("a tab killed while it trains", async () => {
  const whole = await open(browser);
  await start(whole.page);
  const expected = await outcome(whole.page);
  await whole.context.close();

  const { context, page } = await open(browser);
  await start(page);
  await part(page, "epochs-table").locator("tbody tr").nth(1).waitFor({ timeout: 120_000 });
  const devtools = await context.newCDPSession(page);
  const gone = page.waitForEvent("crash");
  devtools.send("Page.crash").catch(() => undefined);
  await gone;
  const next = await context.newPage();
  await next.goto(url);
  await loadModel(next);
  await go(next, "train");
  await next.locator('[data-test^="resume-"]:enabled').click({ timeout: 60_000 });
  await part(next, "loss-curve").waitFor({ timeout: 60_000 });
  // it goes on where it was, and does not begin anew
  await part(next, "epochs-table").locator("tbody tr").nth(1).waitFor({ timeout: 10_000 });
  const found = await outcome(next);
  assert.deepEqual(found.figures, expected.figures);
  assert.ok(found.adapter === expected.adapter, "the adapters differ");
  await context.close();
});

test("storage fills up while it trains", async () => {
  const { context, page } = await open(browser);
  await start(page);
  await part(page, "loss-curve").waitFor({ timeout: 60_000 });
  const devtools = await context.newCDPSession(page);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: new URL(url).origin, quotaSize: 1000 });
  const found = await outcome(page);
  assert.ok(Number(found.figures[0]) > 0.9);
  const notices = (await part(page, "notice").allTextContents()).join(" ");
  assert.match(notices, /storage is full.*Download the classifier/);
  await context.close();
});
