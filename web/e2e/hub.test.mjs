// The hub of the download tests does what it says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { start } from "./hub.mjs";

const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));

/** Starts a hub, hands it over, and closes it. */
async function hub(options, use) {
  const started = await start({ bytes, ...options });
  try {
    await use(started, (range) => fetch(started.url, range ? { headers: { Range: range } } : {}));
  } finally {
    await started.close();
  }
}

const read = async (response) => Buffer.from(await response.arrayBuffer());

test("a plain hub redirects to another origin, whole and in part", () =>
  hub({}, async ({ url, requests }, ask) => {
    const whole = await ask();
    assert.deepEqual(await read(whole), bytes);
    assert.notEqual(new URL(whole.url).origin, new URL(url).origin);
    assert.equal(whole.headers.get("access-control-allow-origin"), "*");
    const part = await ask("bytes=299990-");
    assert.equal(part.status, 206);
    assert.equal(part.headers.get("content-range"), "bytes 299990-299999/300000");
    assert.deepEqual(await read(part), bytes.subarray(299_990));
    assert.equal((await ask("bytes=300000-")).status, 416);
    assert.deepEqual(requests.map((request) => request.status), [302, 200, 302, 206, 302, 416]);
    assert.equal(requests[3].range, "bytes=299990-");
  }));

test("each fault is there", async () => {
  await hub({ behaviour: "noRanges" }, async (_, ask) => {
    const answer = await ask("bytes=100-");
    assert.equal(answer.status, 200);
    assert.deepEqual(await read(answer), bytes);
  });
  await hub({ behaviour: "changed" }, async (_, ask) => {
    const [before, after] = [await ask(), await ask("bytes=100-")];
    assert.notEqual(before.headers.get("etag"), after.headers.get("etag"));
    assert.equal(after.headers.get("content-range"), "bytes 100-299999/300000");
    assert.notDeepEqual(await read(after), bytes.subarray(100));
  });
  for (const [behaviour, status] of [["gated", 401], ["missing", 404], ["busy", 503]]) {
    await hub({ behaviour }, async ({ become }, ask) => {
      assert.equal((await ask()).status, status);
      become("plain");
      assert.equal((await ask()).status, 200);
    });
  }
  await hub({ behaviour: "breaks", breakAfter: 1000 }, async (_, ask) => {
    const answer = await ask();
    assert.equal(answer.headers.get("content-length"), "300000");
    await assert.rejects(read(answer));
  });
  await hub({ behaviour: "hidden" }, async (_, ask) => {
    assert.equal((await ask()).headers.get("access-control-expose-headers"), null);
  });
  await hub({ behaviour: "noCors" }, async (_, ask) => {
    assert.equal((await ask()).headers.get("access-control-allow-origin"), null);
  });
  await hub({ behaviour: "elsewhere" }, async (_, ask) => {
    assert.equal(new URL((await ask()).url).hostname, "127.0.0.1");
  });
  await assert.rejects(start({ bytes, behaviour: "wrong" }), /no behaviour 'wrong'/);
});

test("a slow hub takes its time, and closes in the middle of an answer", () =>
  hub({ bytesPerSecond: 400_000 }, async (_, ask) => {
    const begun = Date.now();
    await read(await ask("bytes=0-99999"));
    assert.ok(Date.now() - begun > 150, `${Date.now() - begun} ms`);
    await ask();
  }));

test("a hub holds its first answer until it is released", () =>
  hub({ holdAfter: 100_000 }, async ({ release }, ask) => {
    const reader = (await ask()).body.getReader();
    let read = 0;
    while (read < 100_000) read += (await reader.read()).value.length;
    assert.equal(read, 100_000);
    release();
    for (let piece; !(piece = await reader.read()).done;) read += piece.value.length;
    assert.equal(read, bytes.length);
  }));
