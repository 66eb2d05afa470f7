// Models from another host: all of it and nothing twice, whatever the host or the line does, and refused in words.

import assert from "node:assert/strict";
import { createCipheriv, createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launch, open } from "./browser.mjs";
import { start } from "./hub.mjs";
import { proxy } from "./proxy.mjs";
import { fixture, loadModel, part } from "./steps.mjs";

/** Bytes of a piece, as in web/src/protocol.rs. */
const PIECE = 8 << 20;
/** Bytes per second: several progress messages come on the way. */
const SLOW = 8e6;

const tiny = readFileSync(fixture("tiny-gemma3.gguf"));
// what lies behind the last tensor is nobody's: a model of six pieces, the last one short, that loads in a moment
const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16), Buffer.alloc(16));
const large = Buffer.concat([tiny, noise.update(Buffer.alloc(5 * PIECE + 1_000_000))]);
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/**
 * A hub of one file, and the page of a server that offers it; `about` is what the server's list says of the
 * file. In the end the hub must not have learned who asked.
 */
async function offered({ about, ...options }, use) {
  const hub = await start({ bytes: large, ...options });
  const model = { key: "hub-model", name: "Hub model", files: [{ name: "model.gguf", url: hub.url, ...about }] };
  const host = await proxy({
    change: (path, headers, body) => path === "/models/index.json"
      ? { headers, body: JSON.stringify([...JSON.parse(body), model]) } : undefined,
  });
  // of one site with the hub, whatever the port: the browser would send the cookie along if it were let
  const address = host.address.replace("127.0.0.1", "localhost");
  try {
    const opened = await open(browser, {}, address);
    await opened.context.addCookies([{ name: "who", value: "me", domain: "localhost", path: "/" }]);
    await use({ hub, address, ...opened });
    for (const { cookie, authorization, ifRange, method } of hub.requests) {
      assert.deepEqual([cookie, authorization, ifRange, method], [undefined, undefined, undefined, "GET"]);
    }
    await opened.context.close();
  } finally {
    await Promise.all([host.close(), hub.close()]);
  }
}

const card = (page) => part(page, "model-card-hub-model");
const begin = (page) => part(page, "load-hub-model").click();
const ready = (page) => part(page, "model-ready").getByText("Hub model is ready").waitFor();
const told = (page, words) => part(page, "notice").filter({ hasText: words }).waitFor();
/** All that the page has told, without the buttons. */
const notices = async (page) =>
  (await part(page, "notice").locator("p").allTextContents()).map((text) => text.trim());
const share = (page, percent) => page.waitForFunction((least) =>
  document.querySelector('[data-test="stage"] progress')?.value >= least, percent);

/** What was asked for of the bytes, and how it was answered. */
const answers = (hub) =>
  hub.requests.filter(({ status }) => status !== 302).map(({ status, range }) => `${status} ${range ?? "whole"}`);
/** Waits until the hub has begun its first answer, which it holds: what it becomes now holds from the second on. */
async function answering(hub) {
  for (let waits = 0; answers(hub).length === 0 && waits < 3000; waits++) await sleep(20);
}
/** The byte from which it went on, once; the start of a piece. */
function wentOn(hub) {
  const [first, second, ...more] = answers(hub);
  const from = Number(/^206 bytes=(\d+)-$/.exec(second)?.[1]);
  assert.deepEqual([first, from % PIECE, more], ["200 whole", 0, []], `${answers(hub)}`);
  return from;
}

/** sha256 of the kept copy; with `flipped` after one bit of that byte was turned over. */
const kept = (page, flipped) => page.evaluate(async (at) => {
  const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
  const handle = await (await models.getDirectoryHandle("hub-model")).getFileHandle("model.gguf");
  if (at !== undefined) {
    const [byte] = new Uint8Array(await (await handle.getFile()).slice(at, at + 1).arrayBuffer());
    const writable = await handle.createWritable({ keepExistingData: true });
    await writable.write({ type: "write", position: at, data: new Uint8Array([byte ^ 1]) });
    await writable.close();
  }
  const bytes = await (await handle.getFile()).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}, flipped);
/** The large file is kept to the last byte, and the page has told this and nothing else. */
async function whole(page, ...words) {
  assert.deepEqual(await notices(page), words);
  assert.equal(await kept(page), sha256(large));
}

test("a model comes once, and is there from then on", () => {
  const about = { bytes: large.length, sha256: sha256(large).toUpperCase() };
  const holdAfter = large.length / 2;
  return offered({ about, bytesPerSecond: SLOW, holdAfter }, async ({ hub, page, errors, foreign }) => {
    await page.addInitScript(() => {
      globalThis.told = [];
      globalThis.Worker = class extends Worker {
        constructor(...all) {
          super(...all);
          this.addEventListener("message", ({ data }) => globalThis.told.push(data.text ?? data));
        }
      };
    });
    await page.reload();
    await begin(page);
    await part(page, "stage").getByText(/^[\d.]+ MB of 43 MB · [\d.]+ MB\/s · \d+ s left$/).waitFor();
    hub.release();
    await ready(page);
    const said = (await page.evaluate(() => globalThis.told)).map((text) => JSON.parse(text).body.Fetching);
    const [done, total] = ["done", "total"].map((what) => said.flatMap((one) => one?.[what] ?? []));
    assert.ok(done.length > 5 && done[0] === 0 && done.at(-1) > 0.8 * large.length, `${done}`);
    assert.deepEqual(done, [...done].sort((a, b) => a - b));
    assert.deepEqual(new Set(total), new Set([large.length]));
    assert.deepEqual(hub.requests.map(({ status }) => status), [302, 200]);
    assert.equal(new Set(hub.requests.map(({ origin }) => origin)).size, 2);

    await page.reload();
    await card(page).getByText("Stored in this browser: no download needed.").waitFor();
    await begin(page);
    await ready(page);
    assert.equal(hub.requests.length, 2);
    await whole(page);
    assert.deepEqual(errors, []);
    const hosts = new Set(foreign.map((address) => new URL(address).origin));
    assert.deepEqual(hosts, new Set(hub.requests.map(({ origin }) => origin)));
  });
});

test("a line that breaks again and again costs no piece twice", () =>
  // what is still on its way when a line breaks is lost: nearly a piece is left to that
  offered({ behaviour: "breaks", breakAfter: 2 * PIECE - 100_000 }, async ({ hub, page }) => {
    await begin(page);
    await ready(page);
    const parts = [1, 2, 3, 4].map((piece) => `206 bytes=${piece * PIECE}-`);
    assert.deepEqual(answers(hub), ["200 whole", ...parts]);
    await whole(page);
  }));

const ends = {
  async paused(page) {
    await part(page, "fetch-pause").click();
    await part(page, "stage").getByText("· paused").waitFor();
    await page.close();
  },
  async killed(page, context) {
    const devtools = await context.newCDPSession(page);
    const gone = page.waitForEvent("crash");
    devtools.send("Page.crash").catch(() => undefined);
    await gone;
  },
};
for (const [how, end] of Object.entries(ends)) {
  test(`a download that was ${how} goes on from what is there`, () =>
    offered({ bytesPerSecond: SLOW, holdAfter: 0.75 * large.length }, async ({ hub, page, context, address }) => {
      await begin(page);
      await share(page, 60);
      await end(page, context);
      const next = await context.newPage();
      await next.goto(address);
      const words = await card(next).getByText("already downloaded").textContent();
      assert.equal(await part(next, "load-hub-model").textContent(), "Resume download");
      await begin(next);
      await ready(next);
      const from = wentOn(hub);
      assert.ok(from >= 3 * PIECE, `${from}`);
      assert.ok(words.startsWith(`${Math.round(from / 1e6)} MB already`), words);
      await whole(next);
    }));
}

test("a host that shows no ETag and no range is gone on with too", () =>
  offered({ behaviour: "hidden", bytesPerSecond: SLOW, holdAfter: 0.5 * large.length }, async ({ hub, page }) => {
    await begin(page);
    await share(page, 25);
    await part(page, "fetch-pause").click();
    await part(page, "fetch-resume").click();
    await ready(page);
    assert.ok(wentOn(hub) >= PIECE);
    await whole(page);
  }));

test("a host that cannot go on in the middle gives it from the start", () =>
  offered({ behaviour: "breaks", breakAfter: 12e6, holdAfter: 6e6 }, async ({ hub, page }) => {
    await begin(page);
    await answering(hub);
    hub.become("noRanges");
    hub.release();
    await ready(page);
    assert.deepEqual(answers(hub), ["200 whole", `200 bytes=${PIECE}-`]);
    const cannot = "model.gguf: the host cannot resume in the middle of a file; it is downloaded from the start.";
    await whole(page, cannot);
  }));

test("a file that changed on the way is not put together with the old one", () =>
  offered({ behaviour: "breaks", breakAfter: 12e6, holdAfter: 6e6 }, async ({ hub, page }) => {
    await begin(page);
    await answering(hub);
    hub.become("changed");
    hub.release();
    await told(page, /model\.gguf: the file on the host has changed; it is downloaded from the start/);
    await told(page, /model\.gguf: this is not a model that Hearth reads.*delete it under/);
    assert.deepEqual(answers(hub), ["200 whole", `206 bytes=${PIECE}-`, "200 whole"]);
    assert.equal(await kept(page), sha256(large.map((byte) => byte ^ 0xff)));
    await loadModel(page);
  }));

/** What is kept of the model, in the list and in storage. */
const left = (page) => page.evaluate(async () => {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("models", { create: true });
  return [document.querySelectorAll('[data-test="delete-hub-model"]').length, await Array.fromAsync(models.keys())];
});
/** Stops the clock by which the loader counts a host's silence: what ends from now on was ended by the page. */
async function neverBroken(page) {
  const loaderOf = () => page.workers().find((worker) => worker.url().includes("loader_loader"));
  while (!loaderOf()) await sleep(20);
  await loaderOf().evaluate(() => { globalThis.setInterval = () => 0; });
}

test("pause and cancel act on a host that says nothing without waiting for its silence to count, and the model can be loaded after that", async () => {
  const silent = { mute: { behaviour: "mute" }, held: { holdAfter: PIECE + 1_000_000 } };
  for (const [how, options] of Object.entries(silent)) {
    await offered(options, async ({ hub, page }) => {
      const asked = async (times) => {
        while (hub.requests.filter(({ status }) => status !== 302).length < times) await sleep(20);
      };
      await neverBroken(page);
      await begin(page);
      await asked(1);
      if (how === "held") await hub.holding;
      await part(page, "fetch-pause").click();
      await part(page, "stage").getByText("· paused").waitFor();
      hub.become("mute");
      await part(page, "fetch-resume").click();
      await asked(2);
      await part(page, "fetch-cancel").click();
      // at once again, while the one before may still be ending
      hub.become("plain");
      await begin(page);
      await ready(page);
      await whole(page);
      await page.reload();
      await neverBroken(page);
      await begin(page);
      await ready(page);

      const remove = part(page, "delete-hub-model");
      await remove.click();
      await remove.click();
      await remove.waitFor({ state: "detached" });
      hub.become("mute");
      const before = hub.requests.filter(({ status }) => status !== 302).length;
      await begin(page);
      await asked(before + 1);
      await part(page, "fetch-cancel").click();
      await part(page, "fetch-cancel").waitFor({ state: "detached" });
      while ((await left(page)).flat().length > 1) await sleep(50);
      assert.deepEqual(await left(page), [0, []]);
    });
  }
});

test("a connection that is silent for 20 seconds is broken", () =>
  offered({ holdAfter: PIECE + 1_000_000 }, async ({ hub, page }) => {
    await begin(page);
    await ready(page);
    assert.deepEqual(answers(hub), ["200 whole", `206 bytes=${PIECE}-`]);
    await whole(page);
  }));

test("while a model is downloaded, another one is refused in words", () =>
  offered({ behaviour: "mute" }, async ({ page }) => {
    await begin(page);
    await part(page, "choice-hint").getByText("Hub model is loaded first").waitFor();
    assert.ok(await part(page, "load-tiny-gemma3").isDisabled());
    const drop = () => page.locator("#model-drop").setInputFiles(fixture("tiny-gemma3.gguf"));
    await drop();
    await told(page, "Another model can be loaded when Hub model is loaded. Wait for that, or cancel it under Model.");
    await part(page, "fetch-cancel").click();
    await drop();
    await part(page, "model-ready").getByText("tiny-gemma3 is ready").waitFor();
  }));

test("what is refused is told in words, and asked for once", async () => {
  const none = "0".repeat(64);
  const refused = [
    [{ behaviour: "gated" }, "401", /signed in.*Download the file yourself, then open it here from your disk/],
    [{ behaviour: "missing" }, "404", /there is no such file on the host.*open a file from your disk/],
    [{ about: { sha256: none } }, "200", /its sha256 is [0-9a-f]{64}, expected 0{64}.*It was deleted/],
    [{ about: { bytes: 5 } }, "200", /has 202592 bytes, expected 5/],
  ];
  for (const [options, status, words] of refused) {
    await offered({ bytes: tiny, ...options }, async ({ hub, page }) => {
      await begin(page);
      await told(page, words);
      assert.deepEqual(answers(hub), [`${status} whole`]);
      await loadModel(page);
      // what brought nothing leaves no name behind
      assert.equal(await part(page, "delete-hub-model").count(), 0);
    });
  }
});

test("a busy host is asked again", () =>
  offered({ behaviour: "busy", bytes: tiny }, async ({ hub, page }) => {
    await begin(page);
    await ready(page);
    assert.deepEqual([answers(hub), await notices(page)], [["503 whole", "200 whole"], []]);
  }));

test("a host that no policy names, or that lets nobody read, is given up after five tries", async () => {
  const refusing = (behaviour, statuses) => offered({ behaviour, bytes: tiny }, async ({ hub, page }) => {
    await begin(page);
    await told(page, /The connection was lost.*Resume the download/);
    assert.deepEqual(hub.requests.map(({ status }) => status), Array(5).fill(statuses).flat());
    await loadModel(page);
  });
  // nothing of `elsewhere` may reach the second holder: it notes every request
  await Promise.all([refusing("elsewhere", [302]), refusing("noCors", [302, 200])]);
});

test("a byte that turned over in storage costs one piece", () =>
  offered({ about: { bytes: large.length, sha256: sha256(large) } }, async ({ hub, page }) => {
    await begin(page);
    await ready(page);
    // in a tensor, and in the last piece, which the engine only checks
    for (const at of [150_000, large.length - 5]) {
      assert.notEqual(await kept(page, at), sha256(large));
      hub.requests.length = 0;
      await page.reload();
      await card(page).getByText("Stored in this browser").waitFor();
      await begin(page);
      await ready(page);
      const piece = Math.floor(at / PIECE);
      const end = Math.min((piece + 1) * PIECE, large.length);
      assert.deepEqual(answers(hub), [`206 bytes=${piece * PIECE}-${end - 1}`]);
      const damaged = `Piece ${piece} of model.gguf was damaged in storage and is downloaded again.`;
      await whole(page, damaged);
    }
  }));
