// Keeps the built page, so that it opens without a network and page and workers are of one build; adds the
// policy that keeps data in the tab where a static host sends none. `cargo xtask offline` writes BUILD, FILES (the
// sha256 of every file by its name), MODELS, POLICY and LOADER above these lines. Weights never pass through here.

const HERE = new URL("./", location).href;
// other deployments of this origin have caches of their own
const OWN = `hearth ${HERE} `;
const KEPT = OWN + BUILD;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("message", (event) => {
  if (event.data === "take over") event.waitUntil(takeOverIfAlone());
  if (event.data === "forget") event.waitUntil(forget());
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const path = url.split(/[?#]/)[0];
  if (method !== "GET" || !path.startsWith(HERE)) return;
  const name = path.slice(HERE.length).replace(/^index\.html$/, "");
  if (Object.hasOwn(FILES, name)) event.respondWith(kept(name));
  else if (name === MODELS) event.respondWith(newest(name));
});

async function keep() {
  await Promise.all(Object.keys(FILES).map(async (name) => {
    if (!(await fetched(name)).built) throw new Error(`${name} is not of this build`);
  }));
  // a static host may offer no models
  await newest(MODELS).catch(() => undefined);
}

async function takeOver() {
  await deleteCaches((name) => name !== KEPT);
  await clients.claim();
}

async function forget() {
  await deleteCaches(() => true);
  await self.registration.unregister();
}

async function deleteCaches(which) {
  for (const name of await caches.keys()) {
    // earlier builds did not name the folder that a cache belongs to; it has that folder's page in it
    const own = name.startsWith(OWN) ||
      (name.startsWith("hearth-") && (await caches.match(HERE, { cacheName: name })));
    if (own && which(name)) await caches.delete(name);
  }
}

// a tab that trains must not find the files of another build under its workers
async function takeOverIfAlone() {
  const tabs = await clients.matchAll({ includeUncontrolled: true });
  if (tabs.length <= 1) await self.skipWaiting();
}

async function kept(name) {
  const before = await caches.match(HERE + name, { cacheName: KEPT });
  const built = before && (await asBuilt(name, before));
  if (built) return built;
  // it is missing, or something has changed it
  const { built: again, response } = await fetched(name);
  if (again) return again;
  // the server has another build by now, and cannot give back what is missing of this one
  if (response.ok) await forget();
  return response;
}

// a file from the server, kept if it is of this build
async function fetched(name) {
  const response = await fetch(new Request(HERE + name, { cache: "no-cache" }));
  const built = response.ok && (await asBuilt(name, response.clone()));
  if (built) await (await caches.open(KEPT)).put(HERE + name, built.clone());
  return { built, response };
}

// the response with its policy, if its body is what was built
async function asBuilt(name, response) {
  const body = await response.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  if (btoa(String.fromCharCode(...hash)) !== FILES[name]) return undefined;
  const headers = new Headers(response.headers);
  // the body is unpacked by now
  headers.delete("Content-Encoding");
  if (!headers.has("Content-Security-Policy")) {
    headers.set("Content-Security-Policy", name.startsWith("loader") ? LOADER : POLICY);
  }
  return new Response(body, { headers });
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
