// A host between browser and server: it can go away, and change what is sent.

import http from "node:http";
import { url } from "./browser.mjs";

/**
 * Passes everything on to `to`. `change(path, headers, body)` may return another `{ headers, body }`.
 * Returns the address, the requests seen and how to end it.
 */
export async function proxy({ to = url, change } = {}) {
  const requests = [];
  const server = http.createServer(async (request, response) => {
    requests.push(request.url);
    // whole answers: "not changed" would hide what is changed here
    const passed = ["range", "accept", "if-range"];
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => passed.includes(name)));
    const answer = await fetch(new URL(request.url, to), { headers, method: request.method });
    let body = Buffer.from(await answer.arrayBuffer());
    let sent = Object.fromEntries(answer.headers);
    ({ headers: sent, body } = change?.(request.url, sent, body) ?? { headers: sent, body });
    for (const name of ["content-length", "content-encoding", "transfer-encoding", "connection"]) delete sent[name];
    response.writeHead(answer.status, sent);
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}/`,
    requests,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

/** A host whose engine or loader runs this first. */
export const tampered = (file, script) => proxy({
  change: (path, headers, body) =>
    path === `/${file}` ? { headers, body: Buffer.concat([Buffer.from(`${script};\n`), body]) } : undefined,
});

/** A host that only notes who came. */
export async function stranger() {
  const visitors = [];
  const server = http.createServer((request, response) => {
    visitors.push(request.url);
    response.end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${server.address().port}/`, visitors, close: () => server.close() };
}
