// The folder that `cargo xtask site` writes, on a server of plain files, under a path: a model from beside the page, and
// everything again without a network.

import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import http from "node:http";
import { extname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { GPU, launch, open } from "./browser.mjs";
import { fixture, loadModel, openTable, part } from "./steps.mjs";

const site = process.env.HEARTH_SITE;
const base = process.env.HEARTH_SITE_BASE ?? "";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json",
  ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json", ".csv": "text/csv",
};

/** Serves a folder as the simplest servers do: types, and nothing else; no ranges either. */
async function plainServer(folder) {
  const asked = [];
  const server = http.createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(request.url.split("?")[0]));
    asked.push(path);
    const file = join(folder, path.endsWith("/") ? `${path}index.html` : path);
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Length": found.size });
    return createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}/`,
    asked,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

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
