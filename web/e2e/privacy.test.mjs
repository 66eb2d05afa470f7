// What leaves the tab, and whether the page would notice: requests planted in page and engine.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GPU, chromiumOnly, launch, open, workersToAsk } from "./browser.mjs";
import { proxy, stranger, tampered } from "./proxy.mjs";
import { loadModel, openTable, fixture, part } from "./steps.mjs";

const openUrl = process.env.HEARTH_URL_WITHOUT_POLICY;

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const engine = (page) => page.workers().find((worker) => worker.url().includes("worker_loader.js"));
const plant = (place, address) =>
  place.evaluate((to) => fetch(to, { mode: "no-cors" }).then(() => "went", () => "did not go"), address);
/** What the engine runs first: it fetches what a test asks it to. Firefox's driver runs nothing in workers. */
const fetching = `
  new BroadcastChannel("plant").onmessage = ({ data, target }) => data.to &&
    fetch(data.to, { mode: "no-cors" }).then(() => "went", () => "did not go").then((end) => target.postMessage({ end }));`;
const plantInEngine = (page, address) => page.evaluate((to) => new Promise((resolve) => {
  const channel = new BroadcastChannel("plant");
  channel.onmessage = ({ data }) => data.end && resolve(data.end);
  channel.postMessage({ to });
}), address);
/** The panel's count, once it is this. */
const counted = (page, what, count) =>
  page.waitForFunction(([name, expected]) =>
    document.querySelector(`[data-test="${name}"]`)?.textContent.trim() === expected, [what, String(count)]);

test("planted requests are stopped, and both counts see them", async () => {
  const host = await tampered("worker_loader.js", fetching);
  const { context, page } = await open(browser, {}, host.address);
  const other = await stranger();
  await loadModel(page);
  await counted(page, "requests", 0);
  await counted(page, "blocked", 0);
  assert.equal(await plant(page, other.address), "did not go");
  await counted(page, "blocked", 1);
  assert.equal(await plantInEngine(page, other.address), "did not go");
  await counted(page, "blocked", 2);
  assert.deepEqual(other.visitors, []);
  // the own server may be reached, and that is counted too
  const before = await part(page, "requests").textContent();
  await plant(page, `${host.address}planted`);
  await plantInEngine(page, `${host.address}planted`);
  await counted(page, "requests", Number(before) + 2);
  other.close();
  await context.close();
  await host.close();
});

test("with the policy off they leave, and are counted", chromiumOnly("no other driver switches policies off"), async () => {
  const other = await stranger();
  // a policy that knows this one stranger; the page's own is switched off
  const host = await proxy({
    change: (path, headers, body) => {
      const policy = headers["content-security-policy"]?.replace("connect-src 'self'", `$& ${other.address}`);
      return { headers: policy ? { ...headers, "content-security-policy": policy } : headers, body };
    },
  });
  const { context, page } = await open(browser, { bypassCSP: true, serviceWorkers: "block" }, host.address);
  await loadModel(page);
  await counted(page, "requests", 0);
  assert.equal(await plant(page, `${other.address}from-page`), "went");
  await counted(page, "requests", 1);
  assert.equal(await plant(engine(page), `${other.address}from-engine`), "went");
  await counted(page, "requests", 2);
  assert.deepEqual(other.visitors, ["/from-page", "/from-engine"]);
  other.close();
  await context.close();
  await host.close();
});

test("no markup that runs anything is shown, and no script is started but the page's own", async () => {
  const { context, page } = await open(browser);
  await loadModel(page);
  const tried = await page.evaluate(() => {
    const box = document.createElement("div");
    const attempt = (what) => {
      try {
        what();
        return "let through";
      } catch {
        return "refused";
      }
    };
    return {
      picture: attempt(() => { box.innerHTML = "<svg><text>on &lt;script&gt;</text></svg>"; }),
      handler: attempt(() => { box.innerHTML = "<img src='x' onerror='globalThis.ran = true'>"; }),
      script: attempt(() => { document.createElement("script").text = "globalThis.ran = true"; }),
      worker: attempt(() => new Worker("./icon.svg")),
      policy: attempt(() => globalThis.trustedTypes.createPolicy("default", {})),
    };
  });
  assert.deepEqual(tried, {
    picture: "let through", handler: "refused", script: "refused", worker: "refused", policy: "refused",
  });
  await context.close();
});

test("where no policy comes with it the engine does not start", async () => {
  const { context, page } = await open(browser, { serviceWorkers: "block" }, openUrl);
  await part(page, "gpu-line").getByText(/does not start/).waitFor();
  await context.close();
});

test("on a host without policies the service worker adds them", async () => {
  const { context, page } = await open(browser, {}, openUrl);
  await part(page, "gpu-line").getByText(GPU).waitFor();
  const other = await stranger();
  for (const place of [page, ...workersToAsk(page)]) assert.equal(await plant(place, other.address), "did not go");
  assert.deepEqual(other.visitors, []);
  const policy = await page.evaluate(() =>
    fetch("./").then((response) => response.headers.get("content-security-policy")));
  assert.match(policy, /default-src 'none'.*connect-src 'self';/);
  other.close();
  await context.close();
});

test("on a host of plain files the page itself keeps requests in, from its first byte on", async () => {
  const { context, page } = await open(browser, { serviceWorkers: "block" }, openUrl);
  const other = await stranger();
  const picture = (address) => new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = (event) => resolve(event.type);
    image.src = address;
  });
  assert.equal(await page.evaluate(picture, `${other.address}picture`), "error");
  assert.equal(await page.evaluate(picture, `${openUrl}icon.svg`), "load");
  assert.deepEqual(other.visitors, []);
  assert.equal(await page.evaluate(() => document.querySelector("meta[http-equiv]").content.split(";")[0]), "default-src 'none'");
  other.close();
  await context.close();
});

/** The names of this page's caches, and what one of their files is replaced by. */
const alter = (page, name, text) => page.evaluate(async ([name, text]) => {
  const [cache] = await caches.keys();
  const all = await caches.open(cache);
  const address = (await all.keys()).map(({ url }) => url).find((url) => new RegExp(name).test(url));
  await all.put(address, new Response(text, { headers: { "Content-Type": "text/javascript" } }));
  return address;
}, [name, text]);

test("a kept file that is not what was built is not used, and fetched again", async () => {
  const host = await proxy();
  const { context, page, errors } = await open(browser, {}, host.address);
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  for (const name of ["/worker\\.js$", "/app-[0-9a-f]+\\.js$"]) {
    const address = await alter(page, name, "console.error('planted')");
    await page.reload();
    await loadModel(page);
    const kept = await page.evaluate(async (url) => (await caches.match(url)).text(), address);
    assert.equal(kept, await (await fetch(address)).text());
  }
  assert.deepEqual(errors, []);
  // and works without a network once more
  await host.close();
  await page.reload();
  await loadModel(page);
  await context.close();
});

test("a page deletes no caches but its own", async () => {
  let version = 0;
  const host = await proxy({
    change: (path, headers, body) => {
      if (path !== "/service-worker.js" || version === 0) return undefined;
      const { etag, ...rest } = headers;
      return { headers: rest, body: body.toString().replace(/const BUILD = "[^"]*/, `$&-${version}`) };
    },
  });
  const { context, page } = await open(browser, {}, host.address);
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  const [own] = await page.evaluate(() => caches.keys());
  // of another folder, as this build and as earlier ones name them, and an earlier one of this page
  const others = [`hearth ${host.address}sub/app/ 1`, "hearth-2", "hearth-3"];
  await page.evaluate(async (names) => {
    for (const [place, name] of names.entries()) {
      const cache = await caches.open(name);
      await cache.put(place < 2 ? "./sub/app/" : "./", new Response("page"));
    }
  }, others);
  version = 1;
  await page.reload();
  // the page is replaced in between
  const keys = () => page.evaluate(() => caches.keys()).catch(() => [own]);
  while ((await keys()).includes(own)) await sleep(100);
  const left = await keys();
  assert.deepEqual(left.sort(), [`${own}-1`, ...others.slice(0, 2)].sort());
  await context.close();
  await host.close();
});

test("without a network the page opens, with its model, and works", async () => {
  const host = await proxy();
  const { context, page } = await open(browser, {}, host.address);
  await part(page, "load-tiny-gemma3").waitFor();
  await loadModel(page);
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  await host.close();
  await page.reload();
  await loadModel(page);
  await openTable(page, fixture("moods.csv"), "happy");
  assert.match(await part(page, "data-facts").textContent(), /200 rows/);
  await context.close();
});

test("a newer build takes over an empty page, and is announced to a busy one", async () => {
  let version = 0;
  const host = await proxy({
    change: (path, headers, body) => {
      if (path !== "/service-worker.js" || version === 0) return undefined;
      const { etag, ...rest } = headers;
      return { headers: rest, body: body.toString().replace(/const BUILD = "[^"]*/, `$&-${version}`) };
    },
  });
  const { context, page } = await open(browser, {}, host.address);
  const kept = () => page.evaluate(() => caches.keys());
  await part(page, "offline").getByText("Works").waitFor({ state: "attached" });
  const [first] = await kept();
  version = 1;
  await page.reload();
  // an address of a screen is a navigation too, and the page is replaced in between
  while ((await kept().catch(() => [first])).includes(first)) await sleep(100);
  const [second, ...none] = await kept();
  assert.notEqual(second, first);
  assert.deepEqual(none, []);
  await part(page, "load-tiny-gemma3").waitFor();
  await loadModel(page);
  // whoever opens the page looks for a newer build; the other tab hears of it
  version = 2;
  const visitor = await context.newPage();
  await visitor.goto(host.address);
  await part(page, "notice").getByText("A new version is available.").waitFor();
  assert.match((await kept()).sort().join(), /-1,.*-2$/);
  await context.close();
  await host.close();
});
