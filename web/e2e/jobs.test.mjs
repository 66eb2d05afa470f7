// Long jobs of the engine: each can be cancelled, and what waits says for what.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { classify, complaints, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const table = (name, rows) => ({
  name,
  mimeType: "text/csv",
  buffer: Buffer.from(`text,mood\n${Array.from({ length: rows }, (_, i) => `my tea number ${i} is good,happy\n`).join("")}`),
});

test("a long table is cancelled, and what waits for it says so", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page);
  await part(page, "zero-shot-only").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
  await go(page, "use");
  await classify(page, table("long.csv", 20_000));
  const jobs = part(page, "job");
  await jobs.filter({ hasText: /Classifying rows….*of 20000/ }).waitFor();
  await part(page, "try-text").fill("my tea is good");
  await part(page, "try-result").getByText("Waiting for another task: Classifying rows…").waitFor();

  // a table that is dropped meanwhile waits too, and need not: it goes at once
  await go(page, "data");
  await page.locator("#data-drop").setInputFiles(table("other.csv", 10));
  const second = jobs.filter({ hasText: "Waiting: Reading other.csv…" });
  await second.waitFor();
  await second.locator('[data-test="job-cancel"]').click();
  await second.waitFor({ state: "detached" });
  await jobs.filter({ hasText: "Classifying rows…" }).waitFor();
  assert.match(await part(page, "data-name").textContent(), /moods.csv/);

  await go(page, "use");
  await jobs.locator('[data-test="job-cancel"]').click();
  await jobs.waitFor({ state: "detached" });
  await part(page, "try-text").fill("my tea is bad");
  await part(page, "try-result").getByText(/ms\./).waitFor();
  // the table is still there, to be classified after all
  await part(page, "classify-start").and(page.locator(":enabled")).waitFor();
  assert.deepEqual(await complaints(page), []);
  await context.close();
});
