// Files that are no model or no table: the page says what they are and what to give instead.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** A number of so many bytes, low byte first. */
const number = (value, bytes) => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntLE(value, 0, Math.min(bytes, 6));
  return buffer;
};
const string = (text) => Buffer.concat([number(text.length, 8), Buffer.from(text)]);
/** A GGUF file of strings in its metadata and one tensor of four zeros. */
function gguf(values, tensor) {
  const pairs = Object.entries(values).map(([key, value]) => Buffer.concat([string(key), number(8, 4), string(value)]));
  const info = Buffer.concat([string(tensor), number(1, 4), number(4, 8), number(0, 4), number(0, 8)]);
  const head = Buffer.concat([Buffer.from("GGUF"), number(3, 4), number(1, 8), number(pairs.length, 8), ...pairs, info]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32), Buffer.alloc(32)]);
}
/** A safetensors file of one tensor of four zeros. */
function safetensors(tensor) {
  const header = Buffer.from(JSON.stringify({ [tensor]: { dtype: "F32", shape: [4], data_offsets: [0, 16] } }));
  return Buffer.concat([number(header.length, 8), header, Buffer.alloc(16)]);
}

const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0f".repeat(32)}\nsize 7654321\n`;
const SHARD = "model-00001-of-00002.safetensors";
const CONFIG = JSON.stringify({ model_type: "gemma3_text", hidden_size: 4, intermediate_size: 4, num_hidden_layers: 1 });
const WRONG = [
  ["a git-lfs pointer", { "little.gguf": POINTER }, [/git-lfs pointer/, /7654321 bytes/, /git lfs pull/]],
  ["a web page", { "page.gguf": "<!DOCTYPE html>\n<html><body>Sign in first</body></html>" }, [/a web page/, /accept the model's terms/]],
  [
    "a projector",
    { "mmproj.gguf": gguf({ "general.architecture": "clip", "general.type": "mmproj" }, "v.patch_embd.bias") },
    [/projector \(mmproj\)/, /give the text model/],
  ],
  [
    "an adapter",
    { "adapter_model.safetensors": safetensors("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight") },
    [/a LoRA adapter/, /give its base model/],
  ],
  [
    "an embedding model",
    { "embed.gguf": gguf({ "general.architecture": "gemma-embedding" }, "token_embd.weight") },
    [/EmbeddingGemma, an embedding model/, /take a text model of Gemma 1, 2 or 3/],
  ],
  [
    "one shard of two",
    { [SHARD]: safetensors("model.norm.weight"), "config.json": CONFIG },
    [/has 2 safetensors files/, /model-00002-of-00002\.safetensors is missing/],
  ],
];

test("wrong model files are called by their names", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  for (const [what, files, words] of WRONG) {
    await go(page, "model");
    const given = Object.entries(files).map(([name, bytes]) => ({
      name, mimeType: "application/octet-stream", buffer: Buffer.from(bytes),
    }));
    await page.locator("#model-drop").setInputFiles(given);
    const notice = words.reduce((found, hasText) => found.filter({ hasText }), part(page, "notice"));
    await notice.waitFor();
    assert.equal(await notice.getAttribute("data-kind"), "error", what);
  }
  await loadModel(page);
  await context.close();
});

const told = (page, words) => part(page, "notice").filter({ hasText: words }).first().waitFor();
const drop = (page, where, name, buffer) =>
  page.locator(where).setInputFiles({ name, mimeType: "application/octet-stream", buffer });

test("files that are not what their names say", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  await go(page, "data");
  await drop(page, "#data-drop", "photo.csv", Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16, 74, 70, 73, 70, 0, 1, 0, 0]));
  await told(page, /photo\.csv/);
  await go(page, "model");
  await drop(page, "#model-drop", "holiday.gguf", Buffer.from("not a model at all, only words"));
  await told(page, /holiday\.gguf/);
  await go(page, "model");
  await drop(page, "#model-drop", "notes.txt", Buffer.from("words"));
  await told(page, /notes\.txt/);
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  assert.match(await part(page, "data-facts").textContent(), /200 rows/);
  await context.close();
});
