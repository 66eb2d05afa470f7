// Keeps the built page, so that it opens without a network and page and workers are of one build; adds the
// policy that keeps data in the tab where a static host sends none. `cargo xtask offline` writes BUILD, FILES,
// MODELS, POLICY and LOADER above these lines. Weights never pass through here.

const KEPT = `hearth-${BUILD}`;
const HERE = new URL("./", location).href;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("message", (event) => {
  if (event.data === "take over") event.waitUntil(takeOverIfAlone());
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const path = url.split(/[?#]/)[0];
  if (method !== "GET" || !path.startsWith(HERE)) return;
  const name = path.slice(HERE.length).replace(/^index\.html$/, "");
  if (FILES.includes(name)) event.respondWith(kept(name));
  else if (name === MODELS) event.respondWith(newest(name));
});

async function keep() {
  const cache = await caches.open(KEPT);
  await cache.addAll(FILES.map((name) => new Request(HERE + name, { cache: "no-cache" })));
  // a static host may offer no models
  await newest(MODELS).catch(() => undefined);
}

async function takeOver() {
  const others = (await caches.keys()).filter((name) => name.startsWith("hearth-") && name !== KEPT);
  await Promise.all(others.map((name) => caches.delete(name)));
  await clients.claim();
}

// a tab that trains must not find the files of another build under its workers
async function takeOverIfAlone() {
  const tabs = await clients.matchAll({ includeUncontrolled: true });
  if (tabs.length <= 1) await self.skipWaiting();
}

async function kept(name) {
  const cache = await caches.open(KEPT);
  const response = (await cache.match(HERE + name)) ?? (await fetch(HERE + name));
  if (!response.ok || response.headers.has("Content-Security-Policy")) return response;
  const headers = new Headers(response.headers);
  headers.set("Content-Security-Policy", name.startsWith("loader") ? LOADER : POLICY);
  // the body is unpacked by now
  headers.delete("Content-Encoding");
  return new Response(response.body, { status: response.status, headers });
}

async function newest(name) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(HERE + name, { cache: "no-cache" });
    if (response.ok) await cache.put(HERE + name, response.clone());
    return response;
  } catch (error) {
    const before = await cache.match(HERE + name);
    if (before) return before;
    throw error;
  }
}
