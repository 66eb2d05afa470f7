// The npm package, installed from its archive into pages of its own, with a bundler and without: it answers as the
// command line does, trains as it does, and nothing leaves the page.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { launch, open, workersToAsk } from "./browser.mjs";
import { hearth, lossesApart, mostApart } from "./native.mjs";
import { plainServer } from "./plain_server.mjs";
import { fixture } from "./steps.mjs";
import { records } from "../npm/files.js";

const folder = mkdtempSync(join(tmpdir(), "hearth-npm-"));
const installed = join(folder, "node_modules/hearth-classifier");
const MODEL = fixture("tiny-gemma3.gguf");
const compiler = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));

let browser;
let server;
/** What the command line comes to: its history, and texts with their classes and probabilities. */
let native;

before(async () => {
  writeFileSync(join(folder, "package.json"), '{ "name": "scratch", "private": true, "type": "module" }');
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  execFileSync(npm, ["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", process.env.HEARTH_NPM], { cwd: folder });
  const run = join(folder, "run");
  const { history } = JSON.parse(await hearth("train", fixture("moods.csv"), "--text", "text", "--label", "mood",
    "--model", MODEL, "--positive", "happy", "--question", "Is the writer happy", "--word", "happy=Yes", "--word", "sad=No",
    "--epochs", "2", "--lr", "0.01", "--seed", "3", "--out", run, "--json"));
  const said = join(folder, "said.csv");
  await hearth("predict", fixture("more-moods.csv"), "--text", "text", "--classifier", run, "--model", MODEL, "--out", said);
  const [, ...rows] = records(readFileSync(said, "utf8"));
  native = {
    history,
    texts: rows.map((row) => row[0]),
    classes: rows.map((row) => row[3]),
    probabilities: rows.map((row) => row.slice(4).map(Number)),
  };
  assert.ok(native.texts.length >= 40 && new Set(native.classes).size === 2, `${native.texts.length} rows`);
  copyFileSync(join(run, "classifier.hearth"), join(folder, "classifier.hearth"));
  copyFileSync(MODEL, join(folder, "model.gguf"));
  copyFileSync(fixture("moods.csv"), join(folder, "moods.csv"));
  copyFileSync(join(installed, "example.html"), join(folder, "example.html"));
  writeFileSync(join(folder, "index.html"), '<!doctype html><meta charset="utf-8"><title>Plain</title><link rel="icon" href="data:,">' +
    '<script type="module">globalThis.hearth = await import("./node_modules/hearth-classifier/index.js");</script>');
  server = await plainServer(folder);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true });
});

/** A page that has the package as `hearth`. */
async function scratch(address) {
  const opened = await open(browser, {}, address);
  await opened.page.waitForFunction(() => globalThis.hearth);
  return opened;
}

/** Classes and probabilities of the texts, by the classifier that lies beside the page. */
const classified = (page, texts) => page.evaluate(async (texts) => {
  const stages = new Set();
  const onProgress = ({ stage }) => stages.add(stage);
  globalThis.classifier = await hearth.Classifier.load({ bundle: "classifier.hearth", model: "model.gguf", onProgress });
  const [classes, probabilities] = [await classifier.predict(texts), await classifier.predictProba(texts)];
  return { classes, probabilities, names: classifier.classes, stages: [...stages] };
}, texts);

/** They are the command line's. */
function same(found) {
  assert.deepEqual(found.names, ["sad", "happy"]);
  assert.deepEqual(found.stages, ["fetching", "loading"]);
  assert.deepEqual(found.classes, native.classes);
  const most = mostApart(found.probabilities.flat(), native.probabilities.flat());
  console.log(`# probabilities apart: ${most}`);
  assert.ok(most <= 1e-6);
}

/** Nothing was asked of another host; the engine's own attempt at that is stopped by its policy. */
const stayed = (foreign) =>
  assert.deepEqual(foreign.filter((address) => !/^(blob|data):/.test(address) && address !== "https://hearth.invalid/"), []);

test("without a bundler it answers as the command line does", async () => {
  const { context, page, foreign } = await scratch(server.address);
  same(await classified(page, native.texts));
  stayed(foreign);
  // the server sends no policy, and yet the engine reaches nobody, not even this server
  const reach = (address) => fetch(address).then(() => "reached", (error) => String(error));
  for (const worker of workersToAsk(page)) assert.match(await worker.evaluate(reach, server.address), /Failed to fetch/);
  assert.equal(await page.evaluate(() => {
    classifier.close();
    return document.querySelectorAll("iframe").length;
  }), 0);
  await assert.rejects(page.evaluate(() => classifier.predict(["again"])), /This classifier is closed\. Load it again\./);
  await context.close();
});

test("through a bundler it does the same", async () => {
  const source = join(folder, "bundled");
  mkdirSync(source);
  writeFileSync(join(source, "index.html"),
    '<!doctype html><meta charset="utf-8"><title>Bundled</title><link rel="icon" href="data:,"><script type="module" src="./main.js"></script>');
  writeFileSync(join(source, "main.js"), 'import * as hearth from "hearth-classifier";\nglobalThis.hearth = hearth;\n');
  const outDir = join(folder, "built/under/a/path");
  await build({ root: source, base: "./", configFile: false, logLevel: "error", build: { outDir, target: "esnext" } });
  for (const name of ["classifier.hearth", "model.gguf"]) copyFileSync(join(folder, name), join(outDir, name));
  const plain = await plainServer(join(folder, "built"));
  const { context, page, foreign } = await scratch(`${plain.address}under/a/path/`);
  same(await classified(page, native.texts));
  stayed(foreign);
  assert.deepEqual(plain.asked.filter((path) => path.includes("node_modules")), []);
  await context.close();
  await plain.close();
});

test("the example classifies a text", async () => {
  const { context, page, errors } = await open(browser, {}, `${server.address}example.html`);
  await page.getByText("Ready.").waitFor();
  const text = native.texts.findIndex((text) => !/[\r\n]/.test(text));
  await page.getByLabel("Text").fill(native.texts[text]);
  await page.getByRole("button").click();
  await page.locator("output").getByText(/^sad/).waitFor();
  const said = (await page.locator("output").textContent()).split(", ").map((one) => Number(one.split(" ")[1]));
  assert.ok(mostApart(said, native.probabilities[text]) <= 1e-6, `${said}`);
  // a browser asks for an icon, which is not there
  assert.deepEqual(errors.filter((error) => !error.includes("404")), []);
  await context.close();
});

test("it trains as the command line does, and leaves nothing in the storage", async () => {
  const { context, page, foreign } = await scratch(server.address);
  const trained = await page.evaluate(async () => {
    const stages = new Set();
    const classifier = await hearth.fit("moods.csv", {
      model: "model.gguf", text: "text", label: "mood", positive: "happy", question: "Is the writer happy",
      words: { happy: "Yes", sad: "No" }, recipe: { epochs: 2, rate: 0.01, seed: 3 }, name: "moods",
      onProgress: ({ stage }) => stages.add(stage),
    });
    const file = await classifier.toBlob();
    const texts = ["I love this", "what a \"sad\",\n day"];
    const before = await classifier.predictProba(texts);
    classifier.close();
    const again = await hearth.Classifier.load({ bundle: file, model: "model.gguf" });
    const [name, after] = [again.summary.name, await again.predictProba(texts)];
    again.close();
    const stored = [];
    const walk = async (folder, path) => {
      for await (const entry of folder.values()) {
        if (entry.kind === "directory") await walk(entry, `${path}${entry.name}/`);
        else stored.push(path + entry.name);
      }
    };
    await walk(await navigator.storage.getDirectory(), "");
    return { history: classifier.fitted.history, rows: classifier.fitted.test.evaluation.rows, name, before, after, stages: [...stages], stored };
  });
  const apart = lossesApart(trained.history, native.history);
  console.log(`# losses apart: step 1 ${apart[0]}, all ${Math.max(...apart)}`);
  assert.ok(apart[0] <= 1e-5 && Math.max(...apart.slice(0, 20)) <= 1e-3);
  assert.equal(trained.rows, 40);
  assert.equal(trained.name, "moods");
  assert.deepEqual(trained.after, trained.before);
  for (const stage of ["fetching", "loading", "reading", "training", "epoch", "scoring"]) assert.ok(trained.stages.includes(stage), stage);
  assert.deepEqual(trained.stored, []);
  stayed(foreign);
  await context.close();
});

test("a training can be aborted, and mistakes are answered in words", async () => {
  const { context, page } = await scratch(server.address);
  const said = (call) => page.evaluate(async (call) => {
    const stop = new AbortController();
    const all = { model: "model.gguf", positive: "happy", recipe: { epochs: 50 }, onWarning: () => undefined };
    const rows = [{ text: "fine", mood: "happy" }, { text: "grim", mood: "sad" }];
    const abort = ({ stage }) => { if (stage === "training") stop.abort(); };
    const { fit, Classifier } = hearth;
    return new Function("fit", "Classifier", "all", "rows", "stop", "abort", `return ${call}`)(fit, Classifier, all, rows, stop, abort)
      .then(() => "done", (error) => `${error.name}: ${error.message}`);
  }, call);
  assert.match(await said('fit("moods.csv", { ...all, signal: stop.signal, onProgress: abort })'), /^AbortError: /);
  for (const [call, words] of [
    ['fit("moods.csv", { ...all, label: "temper" })', /moods\.csv has no column "temper"; its columns are nr, text, mood\. Name one of them as `label`\./],
    ['fit("moods.csv", { ...all, positive: undefined })', /Which of two classes.*"happy" and "sad".*Name one of them as `positive`\./],
    ['fit("moods.csv", { ...all, recipe: { epoch: 3 } })', /unknown field `epoch`/],
    ['fit([], all)', /The table has no rows\. Give rows/],
    ['fit(7, all)', /`table` is number\. Give it an address/],
    ['Classifier.load({ model: "model.gguf", bundle: "none.hearth" })', /bundle: http.*none\.hearth: the server answers 404\. Check the address\./],
    ['Classifier.load({ model: "model.gguf", bundle: "moods.csv" })', /not a Hearth classifier.*choose a file that ends with \.hearth/],
    ['Classifier.load({ model: "moods.csv", bundle: "classifier.hearth" })', /HearthError: .*moods\.csv/],
    ['Classifier.load({ model: "model.gguf", bundle: "classifier.hearth", engine: { module: "gone.wasm" } })', /gone\.wasm: the server answers 404\. Serve worker_bg\.wasm/],
    ['Classifier.load({ model: "model.gguf", bundle: "classifier.hearth", engine: { script: "gone.js" } })', /did not start or crashed.*Check that .*gone\.js/],
    ['Classifier.load({ model: "model.gguf", bundle: "classifier.hearth" }).then((c) => c.predict(["a", " "]))', /texts\[1\] is empty\. Leave empty texts out\./],
    ['Classifier.load({ model: "model.gguf", bundle: "classifier.hearth" }).then((c) => c.predict("a"))', /The texts are not an array\. Give an array of strings\./],
  ]) assert.match(await said(call), words, call);
  await context.close();
});

test("its types take what is right and refuse what is wrong", () => {
  writeFileSync(join(folder, "use.ts"), `import { Classifier, fit, HearthError } from "hearth-classifier";
const classifier: Classifier = await Classifier.load({ bundle: new Blob([]), model: "m.gguf", onProgress: (p) => console.log(p.stage) });
const numbers: number[][] = await classifier.predictProba(["a"]);
const names: string[] = await classifier.predict(["a"]);
const trained = await fit([{ text: "a", mood: "b" }], { model: "m.gguf", recipe: { epochs: 2, loss: "label" } });
const f1: number | null = trained.fitted!.test.evaluation.f1.value;
console.log(numbers, names, f1, new HearthError("what", "advice").advice);
// @ts-expect-error: a list of texts
await classifier.predict("a");
// @ts-expect-error: no such field
await fit("t.csv", { model: "m.gguf", recipe: { epoch: 2 } });
// @ts-expect-error: no such loss
await fit("t.csv", { model: "m.gguf", recipe: { loss: "none" } });
// @ts-expect-error: the model is missing
await Classifier.load({ bundle: "c.hearth" });
`);
  const options = ["--strict", "--noEmit", "--target", "esnext", "--lib", "esnext,dom,dom.iterable", "--module", "nodenext"];
  execFileSync("node", [compiler, ...options, "use.ts"], { cwd: folder, stdio: "inherit" });
});
