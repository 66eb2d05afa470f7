// Floats are made smaller once: what is kept of picked files is the small one, and the next visit starts from it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { GPU, launch, open, url } from "./browser.mjs";
import { complaints, go, part } from "./steps.mjs";

const crates = new URL("../../crates/", import.meta.url);
const twin = new URL("gemma/tests/golden/tiny_gemma3/model/", crates);
/** Tokens of that model. */
const TOKENS = 512;

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** The tokenizer of the tests without what the model has no rows for. */
function tokenizer() {
  const all = JSON.parse(readFileSync(new URL("formats/tests/fixtures/tokenizer/tiny.json", crates)));
  const { model } = all;
  model.vocab = Object.fromEntries(Object.entries(model.vocab).filter(([, id]) => id < TOKENS));
  model.merges = model.merges.filter(([a, b]) => [a, b, a + b].every((piece) => piece in model.vocab));
  return Buffer.from(JSON.stringify(all));
}

/** Names and sizes of what is kept of all models. */
const kept = (page) => page.evaluate(async () => {
  const files = {};
  const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
  for await (const [key, folder] of models.entries()) {
    for await (const [name, handle] of folder.entries()) files[`${key}/${name}`] = (await handle.getFile()).size;
  }
  return files;
});

/** What the model writes on, the likeliest word each time. */
async function writes(page) {
  await go(page, "use");
  await page.getByText("Generation settings").click();
  await part(page, "write-temperature").fill("0");
  await part(page, "write-tokens").fill("12");
  await part(page, "write-tokens").blur();
  await part(page, "write-start").click();
  await page.getByText("tokens per second").waitFor();
  return part(page, "written").textContent();
}

test("a model of floats is kept in 4 bits", async () => {
  const { context, page, errors } = await open(browser);
  await part(page, "gpu-line").getByText(GPU).waitFor();
  await page.getByText("Advanced: weight precision").click();
  await part(page, "weights").selectOption("q4");
  const file = (name, buffer) => ({ name, mimeType: "application/octet-stream", buffer });
  const weights = readFileSync(new URL("model.safetensors", twin));
  await page.locator("#model-drop").setInputFiles([
    file("model.safetensors", weights),
    file("config.json", readFileSync(new URL("config.json", twin))),
    file("tokenizer.json", tokenizer()),
  ]);
  await part(page, "model-ready").waitFor();
  const files = await kept(page);
  const large = Object.entries(files).filter(([name]) => /\.(safetensors|gguf|json)$/.test(name));
  assert.deepEqual(large.map(([name]) => name).sort(), ["model/model-q4.safetensors", "model/tokenizer.json"]);
  assert.ok(files["model/model-q4.safetensors"] < weights.length / 3, JSON.stringify(files));
  const first = await writes(page);

  await page.goto(url);
  await part(page, "load-model").and(page.locator(":enabled")).click();
  await part(page, "model-ready").waitFor();
  assert.equal(await writes(page), first);
  assert.deepEqual(await complaints(page), []);
  assert.deepEqual(errors, []);
  await context.close();
});
