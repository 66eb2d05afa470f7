// The page starts, its worker opens the GPU, and nothing asks another host for anything.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launch, open, url } from "./browser.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

test("the worker names the GPU", async () => {
  const { context, page, errors, foreign } = await open(browser);
  const status = page.getByRole("status");
  await page.locator("[data-state=ready], [data-state=failed]").waitFor({ timeout: 60_000 });
  assert.match(await status.textContent(), /Ready to compute on .*SwiftShader/i);
  assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), "Hearth");
  assert.equal(page.workers().length, 1);
  assert.deepEqual(errors, []);
  assert.deepEqual(foreign, []);
  await context.close();
});

test("without a GPU the page says so", async () => {
  const plain = await launch({ webgpu: false });
  try {
    const { page } = await open(plain);
    await page.locator("[data-state=ready], [data-state=failed]").waitFor({ timeout: 60_000 });
    assert.equal(await page.getByRole("status").getAttribute("data-state"), "failed");
    assert.match(await page.getByRole("status").textContent(), /WebGPU/);
  } finally {
    await plain.close();
  }
});

test("the policy blocks other hosts, in the page and in the worker", async () => {
  const { context, page } = await open(browser);
  await page.locator("[data-state=ready]").waitFor({ timeout: 60_000 });
  const ask = () => fetch("http://127.0.0.1:9/").then(() => "answered", (error) => String(error));
  const blocked = [];
  page.on("console", (message) => blocked.push(message.text()));
  await page.evaluate(ask);
  await page.workers()[0].evaluate(ask);
  const violations = blocked.filter((text) => /Content Security Policy/.test(text));
  assert.equal(violations.length, 2, blocked.join("\n"));
  for (const file of ["", "worker_loader.js", "worker.js"]) {
    const policy = (await page.request.get(url + file)).headers()["content-security-policy"];
    assert.match(policy, /connect-src 'self';/, file);
    assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'|\*/, file);
  }
  await context.close();
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [390, 1440]) {
    test(`nothing is inaccessible or cut off: ${colorScheme}, ${width} px`, async () => {
      const { context, page } = await open(browser, { colorScheme, viewport: { width, height: 900 } });
      await page.locator("[data-state=ready]").waitFor({ timeout: 60_000 });
      if (process.env.HEARTH_SHOTS) {
        await page.screenshot({ path: `${process.env.HEARTH_SHOTS}/start-${colorScheme}-${width}.png` });
      }
      // the protocol's evaluation is not bound by the page's policy, an added script tag would be
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map((violation) => `${violation.id}: ${violation.help}`), []);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${overflow} px too wide`);
      await context.close();
    });
  }
}
