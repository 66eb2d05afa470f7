// The page starts, its engine opens the GPU, and nothing can reach another host.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { GPU, launch, open, url, workersToAsk } from "./browser.mjs";
import { part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** The engine has answered: there is a GPU, or words why not. */
const answered = (page) =>
  page.locator('[data-test="gpu-line"]:not([data-state="waiting"])').waitFor();

test("the engine names the GPU", async () => {
  const { context, page, errors, foreign } = await open(browser);
  await answered(page);
  assert.match(await part(page, "gpu-line").textContent(), GPU);
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
  assert.equal(page.workers().length, 2);
  assert.deepEqual(errors, []);
  assert.deepEqual(foreign, []);
  await context.close();
});

test("without a GPU the page says which browser to take", async () => {
  const plain = await launch({ webgpu: false });
  try {
    const { page } = await open(plain);
    await answered(page);
    assert.match(await part(page, "gpu-line").textContent(), /Chrome.*Firefox.*Safari/s);
  } finally {
    await plain.close();
  }
});

test("the policy blocks other hosts, in the page and in both workers", async () => {
  const { context, page } = await open(browser);
  await answered(page);
  const ask = () => new Promise((resolve) => {
    globalThis.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
    fetch("http://127.0.0.1:9/").catch(() => setTimeout(resolve, 60_000, "no policy was in the way"));
  });
  for (const place of [page, ...workersToAsk(page)]) {
    assert.match(await place.evaluate(ask), /^http:\/\/127\.0\.0\.1:9/, place.url());
  }
  for (const file of ["", "worker_loader.js", "worker.js"]) {
    const policy = (await fetch(url + file)).headers.get("content-security-policy");
    assert.match(policy, /connect-src 'self';/, file);
    assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'|\*/, file);
  }
  const loader = (await fetch(`${url}loader_loader.js`)).headers.get("content-security-policy");
  assert.match(loader, /connect-src 'self' https:\/\/huggingface\.co /);
  await context.close();
});
