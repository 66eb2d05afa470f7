// How the page looks and reads: every screen, light and dark, on a phone and on a wide screen. axe-core
// finds nothing to object to, nothing scrolls sideways, and a picture of each goes to HEARTH_SHOTS.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import axe from "axe-core";
import { launch, open } from "./browser.mjs";
import { fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

const folder = process.env.HEARTH_SHOTS ?? mkdtempSync(join(tmpdir(), "hearth-shots-"));
const looks = [
  { scheme: "light", width: 1440, height: 900 },
  { scheme: "dark", width: 1440, height: 900 },
  { scheme: "dark", width: 390, height: 844 },
  { scheme: "light", width: 390, height: 844 },
];
/** A tablet, and the wide screen at 200 % zoom: nothing sticks out there either. */
const between = [{ width: 768, height: 1024 }, { width: 720, height: 450 }];

let browser;
before(async () => {
  mkdirSync(folder, { recursive: true });
  browser = await launch();
});
after(() => browser?.close());

/** What axe-core objects to, as one line each. */
async function objections(page) {
  // through the debugger's door: the policy lets no script in by a tag
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe.source);
  const violations = await page.evaluate(async () => (await globalThis.axe.run(document)).violations);
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id} (${help}): ${node.target.join(" ")}: ${node.any[0]?.message ?? node.html}`));
}

/** How far the page can be scrolled sideways, and what sticks out. */
function overhang(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")]
      .filter((element) => element.getBoundingClientRect().right > clientWidth + 0.5)
      .map((element) => `${element.tagName}.${element.className} "${element.textContent.slice(0, 30)}"`);
    return [`scrolls by ${scrollWidth - clientWidth} px`, ...wide.slice(0, 5)];
  });
}

/** Looks at what is shown now in every way; returns all that is wrong. */
async function look(page, name, wrong) {
  for (const { scheme, width, height } of looks) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height });
    const where = `${name}, ${scheme}, ${width} px`;
    wrong.push(...[...(await objections(page)), ...(await overhang(page))].map((what) => `${where}: ${what}`));
    await page.screenshot({ path: join(folder, `${name}-${width}-${scheme}.png`), fullPage: true });
  }
  for (const size of between) {
    await page.setViewportSize(size);
    wrong.push(...(await overhang(page)).map((what) => `${name}, ${size.width} px: ${what}`));
  }
  await page.setViewportSize(looks[0]);
}

test("every screen, light and dark, on a phone and a wide screen", async () => {
  const { context, page } = await open(browser);
  const wrong = [];
  await part(page, "load-tiny-gemma3").waitFor();
  await look(page, "1-start", wrong);
  for (const screen of ["data", "train", "results", "use"]) {
    await go(page, screen);
    await look(page, `2-${screen}-before-anything`, wrong);
  }
  await loadModel(page);
  await look(page, "3-model", wrong);
  await openTable(page, fixture("moods.csv"), "happy");
  await look(page, "4-data", wrong);
  await fillRecipe(page);
  await part(page, "start").and(page.locator(":enabled")).waitFor();
  await look(page, "5-train", wrong);
  await part(page, "start").click();
  await part(page, "loss-curve").waitFor();
  await look(page, "6-training", wrong);
  await part(page, "screen-results").waitFor();
  await look(page, "7-results", wrong);
  await part(page, "cell-0-0").click();
  for (const more of await page.locator("main details > summary").all()) await more.click();
  await look(page, "8-results-opened", wrong);
  await go(page, "train");
  await look(page, "9-trained", wrong);
  await go(page, "use");
  await part(page, "try-text").fill("what a lovely day");
  await part(page, "try-result").getByText("happy").waitFor();
  await look(page, "10-use", wrong);
  await go(page, "model");
  for (const more of await page.locator("details > summary").all()) await more.click();
  await look(page, "11-storage-and-privacy", wrong);
  console.log(`# pictures of every screen: ${folder}`);
  assert.deepEqual(wrong, []);
  await context.close();
});

test("without a GPU, in words that can be read", async () => {
  const plain = await launch({ webgpu: false });
  try {
    const { page } = await open(plain);
    await page.locator('[data-test="gpu-line"]:not([data-state="waiting"])').waitFor();
    const wrong = [];
    await look(page, "12-without-a-gpu", wrong);
    assert.deepEqual(wrong, []);
  } finally {
    await plain.close();
  }
});
