// Screens have addresses, the focus follows, and many classes fit on a page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, url } from "./browser.mjs";
import { complaints, epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const focused = (page) => page.evaluate(() => document.activeElement?.textContent?.trim());
/** Waits for a screen with its heading focused. */
async function opened(page, screen, heading) {
  await part(page, `screen-${screen}`).waitFor();
  await page.waitForFunction((heading) => document.activeElement?.matches("h1") && document.activeElement.textContent.trim() === heading, heading);
  await page.waitForFunction((screen) => location.hash === `#/${screen}`, screen);
}

test("every screen has an address, and back, forward and a reload keep it", async () => {
  const { context, page, errors } = await open(browser);
  await page.waitForFunction(() => location.hash === "#/model");
  const start = await page.evaluate(() => history.length);
  await part(page, "step-data").click();
  await opened(page, "data", "Data");
  await part(page, "step-train").click();
  await opened(page, "train", "Train");
  assert.equal(await page.title(), "Train · Hearth");
  assert.equal(await page.evaluate(() => history.length), start + 2);
  await page.goBack();
  await opened(page, "data", "Data");
  await page.goForward();
  await opened(page, "train", "Train");
  await page.reload();
  await part(page, "screen-train").waitFor();
  assert.equal(await page.evaluate(() => location.hash), "#/train");
  // an address that names no screen changes nothing
  await page.evaluate(() => { location.hash = "#/nowhere"; });
  await page.goBack();
  await part(page, "screen-train").waitFor();
  // a link to a screen opens it
  await page.goto(`${url}#/use`);
  await part(page, "screen-use").waitFor();
  assert.deepEqual(errors, []);
  await context.close();
});

test("the skip link leads to the content and leaves the address alone", async () => {
  const { context, page } = await open(browser);
  await go(page, "data");
  await page.evaluate(() => document.activeElement?.blur());
  await page.locator("a.skip").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement?.id === "screen");
  assert.equal(await page.evaluate(() => location.hash), "#/data");
  // from there the next stop lies inside it
  await page.keyboard.press("Tab");
  assert.ok(await page.evaluate(() => document.querySelector("#screen").contains(document.activeElement)), await focused(page));
  await context.close();
});

test("the screen is kept awake while it trains, and again when the tab is shown again", async () => {
  const context = await browser.newContext();
  await context.addInitScript(() => {
    window.locks = { requested: 0, held: 0 };
    const request = async () => {
      window.locks.requested += 1;
      window.locks.held += 1;
      return { release: async () => { window.locks.held -= 1; } };
    };
    Object.defineProperty(Navigator.prototype, "wakeLock", { get: () => ({ request }) });
  });
  const page = await context.newPage();
  page.setDefaultTimeout(300_000);
  await page.goto(url);
  const shown = () => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
  const locks = () => page.evaluate(() => window.locks);
  await shown();
  assert.deepEqual(await locks(), { requested: 0, held: 0 });
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page, { epochs: 200 });
  await part(page, "start").and(page.locator(":enabled")).click();
  await epochs(page, 1);
  assert.deepEqual(await locks(), { requested: 1, held: 1 });
  // a hidden tab has lost its lock
  await page.evaluate(() => { window.locks.held = 0; });
  await shown();
  await page.waitForFunction(() => window.locks.requested === 2);
  await part(page, "pause").click();
  await part(page, "unfinished").waitFor();
  await page.waitForFunction(() => window.locks.held === 0);
  await shown();
  assert.equal((await locks()).requested, 2);
  await context.close();
});

/** A table of short texts in these classes. */
function topics(classes, each) {
  const rows = classes.flatMap((name, i) => Array.from({ length: each }, (_, j) => `the ${i + j * 100} soup is number ${j},${name}`));
  return { name: "topics.csv", mimeType: "text/csv", buffer: Buffer.from(`text,label\n${rows.join("\n")}\n`) };
}

/** So many class names, c0, c1, … */
const numbered = (count) => Array.from({ length: count }, (_, i) => `c${i}`);

/** As many as the tiny tokenizer has tokens for that are letters only, or nearly. */
const ONE_TOKEN = [
  ..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
  ..."Ye Yes No Te Tex Text Pr Pre Pred Predi Predic Predict Is th the wr wri writ write ha hap happ happy Cl Class".split(" "),
];

test("28 classes have a picture and a list of confusions, not a button for each pair", async () => {
  const { context, page, errors } = await open(browser);
  await loadModel(page);
  await openTable(page, topics(numbered(28), 10));
  await go(page, "train");
  await part(page, "zero-shot-only").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
  await part(page, "confusion").locator("svg").waitFor();
  const buttons = part(page, "confusions").locator("button");
  assert.equal(await buttons.count(), 10);
  await part(page, "more-confusions").click();
  await buttons.nth(10).waitFor();
  // a row of the list opens its rows
  await buttons.first().click();
  const [actual, predicted, count] = await part(page, "confusions").locator("tbody tr").first().locator("td").allTextContents();
  await part(page, "cell-rows").getByText(`Actual ${actual}, predicted ${predicted}`).waitFor();
  assert.equal(await part(page, "cell-rows").locator("tbody tr").count(), Math.min(Number(count), 50));
  const curves = await part(page, "roc").textContent();
  assert.match(curves, /mean of \d+ classes/);
  assert.doesNotMatch(await page.locator("#screen").textContent(), /[Aa]t (the|this) threshold/);
  if (process.env.HEARTH_SHOTS) await page.screenshot({ path: `${process.env.HEARTH_SHOTS}/28-classes.png`, fullPage: true });
  for (const width of [390, 768, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${width} px: ${over}`);
  }
  assert.deepEqual(await complaints(page), []);
  assert.deepEqual(errors, []);
  await context.close();
});

test("77 classes make a prompt as long as they need, and one sentence for all that are rare", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  assert.equal(ONE_TOKEN.length, 77);
  await openTable(page, topics(ONE_TOKEN, 8));
  const rare = await page.locator("#screen").getByText(/has only \d+ training rows|have fewer than/).allTextContents();
  assert.ok(rare.length > 0 && rare.length < 8, rare.join("\n"));
  await go(page, "train");
  // before it is planned, nothing says yet that it cannot be trained
  await part(page, "plan-steps").locator(".number").filter({ hasText: /\d/ }).waitFor();
  assert.equal(await part(page, "start").isEnabled(), true);
  assert.ok(Number(await part(page, "field-max_tokens").inputValue()) > 256);
  assert.deepEqual(await complaints(page), []);
  await context.close();
});

test("classes that no short answers are left for are refused before training", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, topics(numbered(77), 8));
  await go(page, "train");
  await page.locator("#screen").getByText(/the tokenizer has only \d+ one-token codes for them.*leave classes out/).first().waitFor();
  await part(page, "start").and(page.locator(":disabled")).waitFor();
  await context.close();
});

test("a table that would train for hours comes with an offer to train on fewer rows", async () => {
  const { context, page, errors } = await open(browser);
  await loadModel(page);
  const rows = Array.from({ length: 30_000 }, (_, i) => `the ${i} soup is number ${i % 97} of the day,${i % 2 ? "happy" : "sad"}`);
  await openTable(page, { name: "large.csv", mimeType: "text/csv", buffer: Buffer.from(`text,label\n${rows.join("\n")}\n`) }, "happy");
  await fillRecipe(page, { epochs: 20 });
  await part(page, "fewer-rows").waitFor();
  const steps = () => part(page, "plan-steps").locator(".number").textContent().then((text) => Number(text.replace(/\D/g, "")));
  const all = await steps();
  const offers = part(page, "fewer-rows").locator("button");
  assert.ok(await offers.count() >= 1);
  await offers.first().click();
  await part(page, "train-on-all").waitFor();
  await page.waitForFunction((all) => Number(document.querySelector('[data-test="plan-steps"] .number').textContent.replace(/\D/g, "")) < all / 10, all);
  // what was typed on the way here is still there
  assert.equal(await part(page, "epochs").inputValue(), "20");
  await part(page, "train-on-all").click();
  await part(page, "fewer-rows").waitFor();
  await page.waitForFunction((all) => Number(document.querySelector('[data-test="plan-steps"] .number').textContent.replace(/\D/g, "")) === all, all);
  assert.deepEqual(await complaints(page), []);
  assert.deepEqual(errors, []);
  await context.close();
});
