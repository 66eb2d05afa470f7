// Gemma 2B in full size, made-up weights: into the browser from a host and from the disk, interrupted, damaged,
// kept, and a text scored as it is natively. Gigabytes and minutes, so only under `cargo xtask test --real`.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { stay, url } from "./browser.mjs";
import { hearth, probabilities } from "./native.mjs";
import { serveFile } from "./fileserver.mjs";
import { classify, downloads, go, openTable, part } from "./steps.mjs";

const PIECE = 8 << 20;
/** Bytes that the program in the tab may take while it loads. */
const HEAP = 300e6;
const KEY = "gemma-2b-made-up";
const NAME = "gemma-2b.gguf";
const MINUTE = 60_000;

const TABLE = `text,label,split
abc,a,train
cba,b,train
acb,a,train
bca,b,train
aab,a,test
bba,b,test
`;

/** `1.63 GB` as the page writes it, in bytes. */
function bytesOf(words) {
  const [, number, unit] = /([\d.,]+) (bytes|kB|MB|GB)/.exec(words);
  return Number(number.replace(",", "")) * { bytes: 1, kB: 1e3, MB: 1e6, GB: 1e9 }[unit];
}

test("2 billion weights in a tab", { skip: process.env.HEARTH_REAL !== "1" && "with --real only" }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "hearth-2b-"));
  const model = join(folder, NAME);
  await hearth("synth", "gemma-2b", "--as", "gguf-q4_k_m", model);
  const host = await serveFile(model);
  // storage of a private window would lie in memory, so the browser gets a folder
  const context = await stay(join(folder, "browser"), { serviceWorkers: "block" });
  const files = [{ name: NAME, url: host.url, bytes: host.size, sha256: null }];
  await context.route("**/models/index.json", (route) => route.fulfill({ json: [{ key: KEY, name: "Made up", files }] }));
  const visit = async () => {
    const page = await context.newPage();
    await page.goto(url);
    await part(page, `load-${KEY}`).and(page.locator(":enabled")).waitFor({ timeout: MINUTE });
    return page;
  };
  const load = (page) => part(page, `load-${KEY}`).click();
  const ready = async (page, how) => {
    await part(page, "model-ready").waitFor({ timeout: 10 * MINUTE });
    const words = await part(page, "model-memory").innerText();
    const [gpu, tab] = words.split(/\bplus\b/).map(bytesOf);
    console.log(`# ${how}: ${words.replace(/\s+/g, " ")}`);
    assert.ok(tab < HEAP, words);
    assert.ok(gpu > 1.2e9 && gpu < 1.4e9, words);
  };

  // the tab is closed at three fifths
  let page = await visit();
  await load(page);
  await page.waitForFunction(() => document.querySelector("progress")?.value >= 60, null, { timeout: 10 * MINUTE, polling: 50 });
  const words = await part(page, "stage").locator(".progress-words").innerText();
  await page.close();
  assert.match(words, /[MG]B of 1\.6 GB · \d+ MB\/s/);
  assert.equal(host.answers.length, 1);

  page = await visit();
  await part(page, `model-card-${KEY}`).getByText(/[MG]B already downloaded/).waitFor();
  await load(page);
  await ready(page, "from a host, interrupted");
  assert.equal(host.answers.length, 2);
  const { from, sent } = host.answers[1];
  assert.ok(from >= 0.55 * host.size && from % PIECE === 0, `went on at ${from}`);
  assert.equal(from + sent, host.size);

  // another visit asks for nothing
  await page.close();
  page = await visit();
  await load(page);
  await ready(page, "from storage");
  assert.equal(host.answers.length, 2);

  // a byte turns over on the disk
  await page.close();
  page = await visit();
  await page.evaluate(async ([key, name, at]) => {
    let place = await navigator.storage.getDirectory();
    for (const part of ["models", key]) place = await place.getDirectoryHandle(part);
    const handle = await place.getFileHandle(name);
    const file = await handle.getFile();
    const byte = new Uint8Array(await file.slice(at, at + 1).arrayBuffer());
    const writable = await handle.createWritable({ keepExistingData: true });
    await writable.write({ type: "write", position: at, data: byte.map((b) => b ^ 1) });
    await writable.close();
  }, [KEY, NAME, 100 * PIECE + 4711]);
  await load(page);
  await ready(page, "a piece repaired");
  assert.deepEqual(host.answers.slice(2).map((answer) => answer.range), [`bytes=${100 * PIECE}-${101 * PIECE - 1}`]);

  // from the disk, nothing kept
  await page.close();
  page = await visit();
  await part(page, "keep-copy").uncheck();
  await page.locator("#model-drop").setInputFiles(model);
  await ready(page, "from a file");
  assert.equal(host.answers.length, 3);

  // a text is scored as it is natively
  const table = { name: "letters.csv", mimeType: "text/csv", buffer: Buffer.from(TABLE) };
  await openTable(page, table, "a");
  await go(page, "train");
  await part(page, "question").fill("Which");
  await part(page, "prompt-row").getByText(/Row/).waitFor({ timeout: MINUTE });
  await part(page, "prompt").getByText("Which").waitFor({ timeout: MINUTE });
  const prompt = await part(page, "prompt").locator("pre").evaluate((pre) => pre.firstChild.textContent);
  assert.match(prompt, /Which.*abc/s);
  await part(page, "zero-shot-only").click();
  await part(page, "screen-results").waitFor({ timeout: 30 * MINUTE });
  await go(page, "use");
  const start = Date.now();
  const [answers] = await downloads(page, 1, () => classify(page,
    { name: "one.csv", mimeType: "text/csv", buffer: Buffer.from("text\nabc\n") }), 10 * MINUTE);
  const seconds = (Date.now() - start) / 1000;
  const [here] = probabilities(readFileSync(answers.path, "utf8"));
  await context.close();
  await host.close();
  const choice = ["--choice", "--plain", "--continuation", "a", "--continuation", "b", "--json"];
  const native = JSON.parse(await hearth("score", "--model", model, "--profile", "default", "--text", prompt.trimEnd(), ...choice));
  const there = native.rows[0].continuations[0].share;
  console.log(`# ${prompt.length} letters scored in ${seconds.toFixed(0)} s: ${here} in the page, ${there} natively`);
  assert.ok(Math.abs(here - there) <= 1e-4, `${here} and ${there}`);
  rmSync(folder, { recursive: true });
});
