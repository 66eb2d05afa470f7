// The native command line, with the same model, data, seed and software GPU, comes to the same classifier.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { downloads, figure, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

/** Chromium's own software GPU, for native programs. */
const driver = process.env.HEARTH_SWIFTSHADER ?? "/usr/lib/chromium/vk_swiftshader_icd.json";
const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "hearth-agree-"));
// few enough that the figures are not perfect yet
const EPOCHS = 3;

let browser;
before(async () => { browser = await launch(); });
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

async function hearth(...args) {
  const command = ["run", "--quiet", "--package", "hearth-cli", "--", ...args];
  const env = { ...process.env, VK_DRIVER_FILES: driver };
  const { stdout } = await promisify(execFile)("cargo", command, { cwd: root, env, maxBuffer: 1 << 24 });
  return stdout;
}

/** The finished run as the page keeps it. */
const record = (page) => page.evaluate(async () => {
  const walk = async (folder) => {
    for await (const entry of folder.values()) {
      if (entry.kind === "directory") {
        const found = await walk(entry);
        if (found) return found;
      } else if (/^run(\.new)?$/.test(entry.name)) {
        return JSON.parse(await (await entry.getFile()).text()).record;
      }
    }
    return undefined;
  };
  return walk(await navigator.storage.getDirectory());
});

/** The probabilities of the class to find: the last column. */
const probabilities = (csv) =>
  csv.trim().split(/\r?\n/).map((line) => Number(line.split(/[;,\t]/).at(-1))).filter(Number.isFinite);

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
  await part(page, "screen-results").waitFor({ timeout: 240_000 });
  const { history } = await record(page);
  const losses = [history, native.history].map(({ steps }) => steps.map((step) => step.loss));
  assert.equal(losses[0].length, losses[1].length);
  const apart = losses[0].map((loss, i) => Math.abs(loss - losses[1][i]));
  console.log(`# losses apart: step 1 ${apart[0]}, 20 steps ${Math.max(...apart.slice(0, 20))}, all ${Math.max(...apart)}`);
  assert.ok(apart[0] <= 1e-5 && Math.max(...apart.slice(0, 20)) <= 1e-3);
  const auc = await figure(page, "stat-auc");
  console.log(`# ROC-AUC: ${auc} in the page, ${native.auc} natively`);
  assert.ok(Math.abs(auc - native.auc) <= 0.01);

  // and the page's own classifier answers alike there
  await go(page, "use");
  const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
  const [answers] = await downloads(page, 1, () =>
    page.locator("#classify-drop").setInputFiles(fixture("more-moods.csv")));
  const said = join(folder, "said.csv");
  await hearth("predict", fixture("more-moods.csv"), "--text", "text", "--classifier", bundle.path,
    "--model", fixture("tiny-gemma3.gguf"), "--out", said);
  const [here, there] = [readFileSync(answers.path, "utf8"), readFileSync(said, "utf8")].map(probabilities);
  assert.equal(here.length, there.length);
  assert.ok(here.length >= 40, `${here.length} rows`);
  const most = Math.max(...here.map((value, i) => Math.abs(value - there[i])));
  console.log(`# probabilities apart: ${most}`);
  assert.ok(most <= 1e-4);
  await context.close();
});
