// The native command line, with the same model, data, seed and software GPU, comes to the same classifier.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { hearth, lossesApart, mostApart, probabilities, record } from "./native.mjs";
import { classify, downloads, figure, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

const folder = mkdtempSync(join(tmpdir(), "hearth-agree-"));
// few enough that the figures are not perfect yet
const EPOCHS = 3;

let browser;
before(async () => { browser = await launch(); });
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

test("page and command line learn the same", async () => {
  const out = join(folder, "run");
  const native = JSON.parse(await hearth("train", fixture("moods.csv"), "--text", "text", "--label", "mood",
    "--model", fixture("tiny-gemma3.gguf"), "--positive", "happy", "--question", "Is the writer happy",
    "--word", "happy=Yes", "--word", "sad=No", "--epochs", String(EPOCHS), "--lr", "0.01", "--seed", "3", "--out", out, "--json"));

  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page, { epochs: EPOCHS });
  await part(page, "start").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
  const apart = lossesApart((await record(page)).history, native.history);
  console.log(`# losses apart: step 1 ${apart[0]}, 20 steps ${Math.max(...apart.slice(0, 20))}, all ${Math.max(...apart)}`);
  assert.ok(apart[0] <= 1e-5 && Math.max(...apart.slice(0, 20)) <= 1e-3);
  const auc = await figure(page, "stat-auc");
  console.log(`# ROC-AUC: ${auc} in the page, ${native.auc} natively`);
  assert.ok(Math.abs(auc - native.auc) <= 0.01);

  // and the page's own classifier answers alike there
  await go(page, "use");
  const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
  const [answers] = await downloads(page, 1, () => classify(page, fixture("more-moods.csv")));
  const said = join(folder, "said.csv");
  await hearth("predict", fixture("more-moods.csv"), "--text", "text", "--classifier", bundle.path,
    "--model", fixture("tiny-gemma3.gguf"), "--out", said);
  const [here, there] = [answers.path, said].map((path) => probabilities(readFileSync(path, "utf8")));
  assert.ok(here.length >= 40, `${here.length} rows`);
  const most = mostApart(here, there);
  console.log(`# probabilities apart: ${most}`);
  assert.ok(most <= 1e-4);
  await context.close();
});
