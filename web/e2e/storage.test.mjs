// What the browser keeps of the user's data: it is listed, it goes when nobody needs it, and all of it can be deleted.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launch, open } from "./browser.mjs";
import { epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** The paths of all files in the site's own file system. */
const files = (page) => page.evaluate(async () => {
  const walk = async (folder, above) => {
    const found = [];
    for await (const [name, handle] of folder.entries()) {
      found.push(...(handle.kind === "file" ? [above + name] : await walk(handle, `${above}${name}/`)));
    }
    return found;
  };
  return walk(await navigator.storage.getDirectory(), "");
});
const ofTables = async (page) => (await files(page)).filter((path) => /\/(data|snapshot-\d)$/.test(path));
/** Everything else that a page can keep. */
const rest = (page) => page.evaluate(async () => [
  await caches.keys(),
  (await indexedDB.databases()).map(({ name }) => name),
  (await navigator.serviceWorker.getRegistrations()).length,
  { ...localStorage },
  { ...sessionStorage },
]);
const copies = (page, words) => part(page, "copies").getByText(words).waitFor({ state: "attached" });

async function pausedRun(page) {
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page);
  await part(page, "start").and(page.locator(":enabled")).click();
  await epochs(page, 1);
  await copies(page, "a copy of moods.csv");
  await part(page, "pause").click();
  await page.locator('[data-test^="resume-"]:enabled').waitFor();
}

test("the copy of a table is listed while its run can be resumed, and goes when it ends", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await copies(page, "No copy of a table");
  await pausedRun(page);
  await copies(page, "a copy of moods.csv");
  assert.equal((await ofTables(page)).filter((path) => path.endsWith("/data")).length, 1);
  await go(page, "model");
  await part(page, "stored-runs").getByText("a copy of moods.csv").waitFor();
  await go(page, "train");
  await page.locator('[data-test^="finish-"]:enabled').click();
  await part(page, "screen-results").waitFor();
  await copies(page, "No copy of a table");
  assert.deepEqual(await ofTables(page), []);

  // a tab that was killed between finishing and forgetting
  await page.evaluate(async () => {
    const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle("runs");
    for await (const run of runs.values()) {
      const writable = await (await run.getFileHandle("data", { create: true })).createWritable();
      await writable.write("text,mood\n");
      await writable.close();
    }
  });
  assert.equal((await ofTables(page)).length, 1);
  await page.reload();
  while ((await ofTables(page)).length > 0) await sleep(100);

  // a run that is deleted takes its copy along
  await loadModel(page);
  await pausedRun(page);
  await go(page, "model");
  const remove = part(page, "stored-runs").locator("tr", { hasText: "a copy of moods.csv" }).getByRole("button");
  await remove.click();
  await remove.click();
  await copies(page, "No copy of a table");
  assert.deepEqual(await ofTables(page), []);
  await context.close();
});

test("all data are deleted at once, and with the models nothing remains", async () => {
  const { context, page } = await open(browser);
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  await loadModel(page);
  await pausedRun(page);
  const erase = async (everything) => {
    await go(page, "model");
    if (everything) await part(page, "erase-everything").check();
    await part(page, "erase").click();
    await part(page, "erase").click();
    const told = part(page, "notice").getByText("Deleted. Nothing of yours is kept here.");
    await told.waitFor();
    await told.waitFor({ state: "detached" });
  };
  await erase(false);
  assert.deepEqual((await files(page)).filter((path) => !path.startsWith("models/")), []);
  await part(page, "model-ready").waitFor();
  await go(page, "data");
  assert.equal(await part(page, "data-name").count(), 0);
  await go(page, "train");
  assert.equal(await part(page, "unfinished").count(), 0);

  // it works as before
  await pausedRun(page);
  await erase(true);
  assert.deepEqual(await files(page), []);
  assert.deepEqual(await rest(page), [[], [], 0, {}, {}]);
  await context.close();
});
