// The real Gemma 3 270M learns in the browser what it learns natively, step by step. Minutes on a software GPU, so
// only under `cargo xtask test --real`.
//
// HEARTH_ETHOS may name a table of the codelab's split (text,label,split); else the page's own sample is taken.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { stay, url } from "./browser.mjs";
import { hearth, lossesApart, mostApart, probabilities, record } from "./native.mjs";
import { classify, downloads, go, openTable, part, setField } from "./steps.mjs";

const KEY = "gemma-3-270m-q4-k-m";
const MINUTE = 60_000;
const ROWS = { train: 24, test: 8 };

/** Rows of one line each, half of them of either class, as `text,label,split`. */
function table() {
  const ethos = process.env.HEARTH_ETHOS;
  const path = ethos ?? new URL("../samples/messages.csv", import.meta.url);
  const lines = readFileSync(path, "utf8").split(/\r?\n/).slice(1)
    .filter((line) => (line.match(/"/g)?.length ?? 0) % 2 === 0 && line.includes(","))
    .map((line) => ethos ? line.replace(/,(train|test)$/, "") : line);
  const classes = ethos ? ["Negative", "Positive"] : ["complaint", "praise"];
  const of = classes.map((name) => lines.filter((line) => line.endsWith(`,${name}`)));
  const rows = Array.from({ length: ROWS.train + ROWS.test }, (_, i) => of[i % 2][i >> 1]);
  const split = rows.map((row, i) => `${row},${i < ROWS.train ? "train" : "test"}`);
  const question = ethos ? "Is the following text hateful" : "Is the following message a complaint";
  return { csv: ["text,label,split", ...split, ""].join("\n"), classes, question };
}

test("the real model learns alike in page and program", { skip: process.env.HEARTH_REAL !== "1" && "with --real only" }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "hearth-real-"));
  const { csv, classes: [positive, other], question } = table();
  const [file, rows] = [join(folder, "rows.csv"), join(folder, "test.csv")];
  writeFileSync(file, csv);
  writeFileSync(rows, csv.split("\n").filter((line, i) => i === 0 || line.endsWith(",test")).join("\n"));

  const context = await stay(join(folder, "browser"));
  const page = await context.newPage();
  await page.goto(url);
  await part(page, `load-${KEY}`).and(page.locator(":enabled")).click({ timeout: MINUTE });
  await part(page, "model-ready").waitFor({ timeout: 5 * MINUTE });
  console.log(`# memory: ${(await part(page, "model-memory").innerText()).replace(/\s+/g, " ")}`);
  await openTable(page, file, positive);
  await go(page, "train");
  await part(page, "question").fill(question);
  await part(page, `word-${positive}`).fill("Yes");
  await part(page, `word-${other}`).fill("No");
  await setField(page, "epochs", 1);
  await setField(page, "seed", 3);
  await setField(page, "validation_share", 0);
  await part(page, "start").and(page.locator(":enabled")).click({ timeout: 10 * MINUTE });
  await part(page, "screen-results").waitFor({ timeout: 40 * MINUTE });
  const { history } = await record(page);
  await go(page, "use");
  const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
  const [answers] = await downloads(page, 1, () => classify(page, rows), 10 * MINUTE);
  const [classifier, said] = [readFileSync(bundle.path), readFileSync(answers.path, "utf8")];
  await context.close();

  const model = process.env.HEARTH_MODEL;
  const shared = ["--text", "text", "--model", model];
  const out = join(folder, "run");
  const native = JSON.parse(await hearth("train", file, ...shared, "--label", "label", "--split", "split",
    "--positive", positive, "--question", question, "--word", `${positive}=Yes`, "--word", `${other}=No`,
    "--epochs", "1", "--seed", "3", "--validation", "0", "--out", out, "--json"));
  const apart = lossesApart(history, native.history);
  console.log(`# losses ${native.history.steps.map((step) => step.loss)}, apart ${apart}`);
  assert.equal(apart.length, 3);
  assert.ok(apart[0] <= 1e-5 && Math.max(...apart) <= 1e-3, `${apart}`);
  writeFileSync(join(folder, "page.hearth"), classifier);
  const predicted = join(folder, "said.csv");
  await hearth("predict", rows, ...shared, "--classifier", join(folder, "page.hearth"), "--out", predicted);
  const [here, there] = [said, readFileSync(predicted, "utf8")].map(probabilities);
  const most = mostApart(here, there);
  console.log(`# probabilities ${here}, apart ${most}`);
  assert.equal(here.length, ROWS.test);
  assert.ok(most <= 1e-4, `${here} and ${there}`);
  rmSync(folder, { recursive: true });
});
