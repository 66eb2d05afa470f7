// The folder that `cargo xtask site` writes, on a server of plain files, under a path: a model from beside the page, and
// everything again without a network.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { GPU, launch, open } from "./browser.mjs";
import { plainServer } from "./plain_server.mjs";
import { fixture, loadModel, openTable, part } from "./steps.mjs";

const site = process.env.HEARTH_SITE;
const base = process.env.HEARTH_SITE_BASE ?? "";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

test("a folder works under a path of a plain server, and without a network after the first visit", async () => {
  const server = await plainServer(site);
  const address = server.address + base;
  const { context, page, errors, foreign } = await open(browser, {}, address);
  await part(page, "gpu-line").getByText(GPU).waitFor();
  await part(page, "load-tiny-gemma3").waitFor();
  await loadModel(page);
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  // nothing is asked for outside its path, and nothing that is not there
  assert.deepEqual(server.asked.filter((path) => !path.startsWith(`/${base}`)), []);
  const there = (path) => stat(join(site, path.endsWith("/") ? `${path}index.html` : path)).then(() => true, () => false);
  for (const path of server.asked) assert.ok(await there(path), path);
  await server.close();
  await page.reload();
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  assert.match(await part(page, "data-facts").textContent(), /200 rows/);
  // the engine tries whether its policy blocks this one; before the service worker is there, no policy does
  assert.deepEqual(foreign.filter((address) => address !== "https://hearth.invalid/"), []);
  // without a network a browser complains of the one list that is asked for again
  assert.deepEqual(errors.filter((error) => !error.includes("ERR_CONNECTION_REFUSED")), []);
  await context.close();
});

test("the headers for other hosts name every file once", () => {
  const rules = readFileSync(join(site, "_headers"), "utf8").split("\n").filter((line) => line.startsWith("/"));
  assert.equal(new Set(rules).size, rules.length);
  assert.ok(rules.includes(`/${base}`) && rules.includes(`/${base}worker.js`) && rules.includes(`/${base}loader.js`), String(rules));
  // what hosts take
  assert.ok(rules.length <= 100, `${rules.length} rules`);
});
