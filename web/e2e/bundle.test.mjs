// What a first visit fetches, samples aside: under 2 MB packed. For the release build, as `cargo xtask serve` makes it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";
import { url } from "./browser.mjs";

const LIMIT = 2e6;

test("the page is small", async () => {
  const worker = await (await fetch(`${url}service-worker.js`)).text();
  const files = Object.keys(JSON.parse(/^const FILES = (.*);$/m.exec(worker)[1])).filter((name) => !name.startsWith("samples/"));
  let all = 0;
  for (const name of files) {
    const bytes = Buffer.from(await (await fetch(url + name)).arrayBuffer());
    const packed = await promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } });
    if (packed.length > 50_000) console.log(`# ${name}: ${bytes.length} bytes, ${packed.length} packed`);
    all += packed.length;
  }
  console.log(`# ${files.length} files, ${all} bytes packed with brotli 9`);
  assert.ok(all < LIMIT, `${all} bytes packed`);
});
