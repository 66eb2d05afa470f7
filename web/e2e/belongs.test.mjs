// What belongs together stays together: a classifier and how its texts were read, the rows it was trained on, its
// results and its threshold; a running training and what it needs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, open, url } from "./browser.mjs";
import { complaints, downloads, epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const csv = (name, text) => ({ name, mimeType: "text/csv", buffer: Buffer.from(text) });
const START = ["the soup is", "the film was", "this trip was", "my tea is", "the walk was"];
const HAPPY = ["good", "great", "nice", "fine"], SAD = ["bad", "poor", "sad", "awful"];
/** Sentences of the fixture's words, each one once, with their class. */
const sentences = START.flatMap((start) =>
  [...HAPPY, ...SAD].map((word) => [`${start} ${word} today`, HAPPY.includes(word) ? "happy" : "sad"]));

/** A classifier without any training: quick to have, and it reads its texts as any other does. */
async function untrained(page, table, text) {
  await loadModel(page);
  await openTable(page, table, "happy");
  if (text) {
    await part(page, "text-column").selectOption({ label: text });
    await part(page, "next-train").and(page.locator(":enabled")).waitFor();
  }
  await fillRecipe(page);
  await part(page, "zero-shot-only").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
}

/** Trains on the table that is open and waits for the results. */
async function train(page, name, settings) {
  await fillRecipe(page, settings);
  await part(page, "run-name").fill(name);
  await part(page, "start").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
}

const survey = csv("survey.csv",
  `text;answer;mood\n${sentences.map(([text, mood], i) => `a question about number ${i};${text};${mood}\n`).join("")}`);
const facts = (page, words) => part(page, "classify-facts").filter({ hasText: words }).waitFor();

test("a table is classified by the column that the classifier was trained on", async () => {
  const { context, page } = await open(browser);
  await untrained(page, survey, "answer");
  await go(page, "use");
  // both have a column called text, and it is not the one
  await page.locator("#classify-drop").setInputFiles(csv("new.csv", "id,text,answer\n1,a question,my tea is bad\n2,another,the soup is good\n"));
  await part(page, "classify-text-about").getByText('read from "answer", as in training').waitFor();
  assert.equal(await part(page, "classify-text").inputValue(), "2");
  await part(page, "classify-rows").getByText("my tea is bad").waitFor();
  const save = () => downloads(page, 1, () => part(page, "classify-start").and(page.locator(":enabled")).click());
  const answers = async () => readFileSync((await save())[0].path, "utf8").trim().split(/\r?\n/).slice(1)
    .map((line) => line.split(",").slice(-3).join());
  const found = await answers();
  // a table of the answers alone says the same of them
  await page.locator("#classify-drop").setInputFiles(csv("alone.csv", "answer\nmy tea is bad\nthe soup is good\n"));
  await facts(page, /2 rows, 1 column/);
  assert.deepEqual(await answers(), found);

  // without that column nothing is guessed: it is named, and the user chooses
  await page.locator("#classify-drop").setInputFiles(csv("other.csv", "id,text\n1,my tea is bad\n2,the soup is good\n"));
  await part(page, "classify-text-about").getByText('no column "answer"').waitFor();
  assert.ok(await part(page, "classify-start").isDisabled());
  await part(page, "classify-text").selectOption({ label: "text" });
  assert.deepEqual(await answers(), found);
  assert.deepEqual(await complaints(page), []);
  await context.close();
});

test("a file of lines without a header keeps its first row", async () => {
  const { context, page } = await open(browser);
  await untrained(page, survey, "answer");
  await go(page, "use");
  await page.locator("#classify-drop").setInputFiles(csv("lines.txt", "the film was great\nmy tea is bad\nthe soup is good\n"));
  await part(page, "classify-text-about").getByText('no column "answer"').waitFor();
  await part(page, "classify-delimiter").selectOption("none");
  await facts(page, /1 column$/);
  await part(page, "classify-header").selectOption("no");
  await facts(page, /3 rows, 1 column$/);
  await part(page, "classify-text").selectOption("0");
  const [file] = await downloads(page, 1, () => part(page, "classify-start").and(page.locator(":enabled")).click());
  assert.match(readFileSync(file.path, "utf8"), /the film was great/);
  await context.close();
});

/** Row numbers of all cells of the confusion matrix. */
async function measuredRows(page) {
  const rows = [];
  for (const cell of ["0-0", "0-1", "1-0", "1-1"]) {
    await part(page, `cell-${cell}`).click();
    rows.push(...await part(page, "cell-rows").locator("tbody td:first-child").allTextContents());
    await part(page, `cell-${cell}`).click();
  }
  return rows.map(Number).sort((a, b) => a - b);
}

test("no row that was trained on is measured", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  const part_of = (i) => (i < 24 ? "train" : "test");
  const table = (split) => `text,mood,split\n${sentences.map(([text, mood], i) => `${text},${mood},${split(i)}\n`).join("")}`;
  await openTable(page, csv("first.csv", table(part_of)), "happy");
  await train(page, "first", { epochs: 1 });
  assert.match(await part(page, "results-about").textContent(), /16 rows of first.csv.*kept out of training/);
  await go(page, "use");
  const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
  const bytes = readFileSync(bundle.path);
  for (const [text] of sentences) assert.ok(!bytes.includes(text), `the bundle holds ${text}`);

  // another visit: half of what is a test row now was a training row then
  await page.goto(url);
  await loadModel(page);
  await go(page, "use");
  await page.locator("#bundle-drop").setInputFiles({ name: bundle.name, mimeType: "", buffer: bytes });
  await part(page, "classifier").waitFor();
  await openTable(page, csv("second.csv", table((i) => (i < 12 ? "train" : "test"))), "happy");
  await go(page, "use");
  await part(page, "evaluate").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
  assert.match(await part(page, "results-about").textContent(), /12 of 28 rows were used in training and are left out/);
  assert.deepEqual(await measuredRows(page), Array.from({ length: 16 }, (_, i) => 25 + i));

  // and where none is left there is nothing to say
  await openTable(page, csv("third.csv", table((i) => (i < 24 ? "test" : "train"))), "happy");
  await go(page, "use");
  await part(page, "evaluate").and(page.locator(":enabled")).click();
  await part(page, "notice").getByText("All 24 test rows of third.csv were used in training").waitFor();
  await part(page, "screen-use").waitFor();
  await context.close();
});

test("trainings with different seeds are measured on the same rows", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, csv("moods-once.csv", `text,mood\n${sentences.map((row) => `${row}\n`).join("")}`), "happy");
  await train(page, "seed 3", { epochs: 1, seed: 3 });
  const first = await measuredRows(page);
  await train(page, "seed 4", { epochs: 1, seed: 4 });
  assert.deepEqual(await measuredRows(page), first);
  assert.equal(first.length, 8);
  await context.close();
});

/** The classifier's description in a bundle. */
function described(path) {
  const bytes = readFileSync(path);
  const header = Number(bytes.readBigUInt64LE(0));
  const [from, to] = JSON.parse(bytes.subarray(8, 8 + header))["classifier.json"].data_offsets;
  return JSON.parse(bytes.subarray(8 + header + from, 8 + header + to));
}

test("results and threshold stay with their classifier", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, csv("moods-once.csv", `text,mood\n${sentences.map((row) => `${row}\n`).join("")}`), "happy");
  const loss = () => part(page, "stat-log-loss").locator(".number").textContent();
  await train(page, "run A", { epochs: 1, seed: 3 });
  const lossA = await loss();
  await train(page, "run B", { epochs: 4, seed: 5 });
  const lossB = await loss();
  assert.notEqual(lossA, lossB);

  // choosing A brings A's results
  const use = async (name) => {
    await go(page, "results");
    await part(page, "runs-table").getByRole("button", { name: `Use ${name}` }).and(page.locator(":enabled")).click();
    await part(page, "screen-use").waitFor();
    await part(page, "classifier").getByText(name).waitFor();
  };
  await use("run A");
  await go(page, "results");
  assert.equal(await loss(), lossA);

  // a threshold chosen here is in the report, the bundle and the run, with figures at that threshold
  await part(page, "threshold").fill("0.9");
  await part(page, "use-threshold").and(page.locator(":enabled")).click();
  await part(page, "threshold-in-use").getByText(/In use: 0.900, chosen on the 8 test rows/).waitFor();
  const recall = await part(page, "moving-recall").locator(".number").textContent();
  await go(page, "use");
  const check = async () => {
    const [bundle] = await downloads(page, 1, () => part(page, "export-bundle").click());
    const found = described(bundle.path);
    assert.deepEqual([found.threshold, found.evaluation.threshold, found.origin.threshold], [0.9, 0.9, { test: 8 }]);
    assert.equal(found.evaluation.per_class[found.positive].recall.value.toFixed(3), recall);
    const [report] = await downloads(page, 1, () => part(page, "export-report").click());
    assert.match(readFileSync(report.path, "utf8"), /threshold 0\.900.*chosen on the 8 test rows/s);
  };
  await check();

  // B is as it was, and after another visit A is as it is now
  await use("run B");
  await go(page, "results");
  assert.equal(await loss(), lossB);
  assert.equal(await part(page, "threshold-value").textContent(), "0.500");
  await page.goto(url);
  await loadModel(page);
  await use("run A");
  await check();
  await go(page, "results");
  assert.equal(await part(page, "threshold-value").textContent(), "0.900");
  assert.equal(await loss(), lossA);

  // a finished run is not deleted by one click
  const remove = page.locator('[data-test^="delete-run-"]').first();
  await remove.click();
  await page.locator('[data-test^="delete-run-"]', { hasText: "Really delete?" }).waitFor();
  assert.equal(await part(page, "runs-table").locator("tbody tr").count(), 2);
  assert.deepEqual(await complaints(page), []);
  await context.close();
});

test("a running training is not disturbed, and says which epoch it keeps", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page, { epochs: 200 });
  await part(page, "start").and(page.locator(":enabled")).click();
  await epochs(page, 3);
  // 32 validation rows choose nothing
  await part(page, "epoch-kept").getByText("The last epoch is kept: 32 validation rows are too few").waitFor();
  assert.equal(await part(page, "epochs-table").getByText("best so far").count(), 0);
  assert.match(await part(page, "stop").textContent(), /keep the last epoch/);

  const told = (words) => part(page, "notice").getByText(words).waitFor();
  const drop = async (where, name) => {
    const data = await page.evaluateHandle((name) => {
      const data = new DataTransfer();
      data.items.add(new File(["text,mood\na,b\n"], name));
      return data;
    }, name);
    await where.dispatchEvent("drop", { dataTransfer: data });
  };
  await go(page, "model");
  await part(page, "load-tiny-gemma3").click();
  await told("Another model can be loaded when the run has ended.");
  const remove = part(page, "delete-tiny-gemma3");
  await remove.click();
  await remove.click();
  await told("A model can be deleted when the run has ended.");
  await drop(page.locator('[data-test="model-drop"]'), "other.gguf");
  await page.locator("details.more summary").click();
  await part(page, "self-test").click();
  await told("This GPU can be checked when the run has ended.");
  await part(page, "erase").click();
  await part(page, "erase").click();
  await told("Your data can be deleted when the run has ended.");
  await part(page, "model-ready").waitFor();
  await go(page, "use");
  await drop(page.locator('[data-test="bundle-drop"]'), "other.hearth");
  await told("Nothing was loaded: a run is training.");
  await go(page, "data");
  await drop(page.locator('[data-test="data-drop"]'), "other.csv");
  await told("Nothing was loaded: a run is training.");
  await drop(page.locator("h1"), "other.csv");
  await told("dropped outside the marked area");
  assert.match(await part(page, "data-name").textContent(), /moods.csv/);
  // leaving asks
  const leave = () => page.evaluate(() => !dispatchEvent(new Event("beforeunload", { cancelable: true })));
  assert.equal(await leave(), true);
  await go(page, "train");
  await part(page, "stop").click();
  await part(page, "screen-results").waitFor();
  assert.equal(await leave(), false);
  await context.close();
});
