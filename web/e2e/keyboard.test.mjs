// From the start to an exported classifier without a pointer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PATIENCE, launch, open } from "./browser.mjs";
import { complaints, fixture, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** More stops than any screen has. */
const STOPS = 300;

/** Presses Tab until the focus is on a part of the page. */
async function reach(page, selector) {
  for (let stop = 0; stop < STOPS; stop++) {
    if (await page.evaluate((selector) => document.activeElement?.matches(selector), selector)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`the keyboard does not reach ${selector}`);
}

const named = (name) => `[data-test="${name}"]`;

/** Reaches a button and presses it, once it can be pressed: a disabled one is no stop. */
async function press(page, name) {
  await part(page, name).and(page.locator(":enabled")).waitFor();
  await reach(page, named(name));
  await page.keyboard.press("Enter");
}

/** Reaches a field and types over what it holds. */
async function type(page, name, text) {
  await part(page, name).waitFor();
  await reach(page, named(name));
  await page.keyboard.press("Control+A");
  await page.keyboard.type(text);
}

test("a classifier is trained, tried and exported by keyboard alone", async () => {
  const { context, page, errors } = await open(browser);
  // asked for long before: the browser catches choosers only once the driver's request has come, which nothing tells
  const chooser = page.waitForEvent("filechooser", { timeout: PATIENCE });
  await press(page, "load-tiny-gemma3");
  await part(page, "model-ready").waitFor();
  await press(page, "step-data");
  await part(page, "screen-data").waitFor();
  await reach(page, "#data-drop");
  await page.keyboard.press("Enter");
  await (await chooser).setFiles(fixture("moods.csv"));
  await part(page, "preview").waitFor();
  await reach(page, named("positive"));
  await page.keyboard.type("happy");
  assert.equal(await part(page, "positive").inputValue(), "happy");
  await press(page, "next-train");
  await part(page, "screen-train").waitFor();
  await type(page, "question", "Is the writer happy");
  await type(page, "epochs", "1");
  await page.keyboard.press("Tab");
  await press(page, "start");
  await part(page, "screen-results").waitFor();
  // a cell of the matrix opens its rows, and the threshold moves by arrow keys
  await reach(page, named("threshold"));
  const before = await part(page, "threshold").inputValue();
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await part(page, "threshold").inputValue(), before);
  await press(page, "cell-0-0");
  await part(page, "cell-rows").locator("h3").waitFor();
  await press(page, "next-use");
  await part(page, "screen-use").waitFor();
  await type(page, "try-text", "what a lovely day");
  await part(page, "try-result").waitFor();
  const download = page.waitForEvent("download", { timeout: PATIENCE });
  await press(page, "export-bundle");
  assert.match((await download).suggestedFilename(), /\.hearth$/);
  assert.deepEqual(await complaints(page), []);
  assert.deepEqual(errors, []);
  await context.close();
});
