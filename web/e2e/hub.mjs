// A hub of models that never leaves this machine: one origin that redirects and one that holds the bytes, as
// the public hub does, with the faults that hubs have.
//
// The origins are http://localhost:PORT, which the test server's policy lets the loader reach (and nothing
// else); http://127.0.0.1:PORT, where the behaviour `elsewhere` redirects to, is one that it must not reach.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/** What a hub can do; `plain` is the good one. */
export const behaviours = {
  plain: "redirects to the other origin, which serves ranges",
  noRanges: "answers 200 with the whole file where a range was asked for",
  changed: "holds another file of the same size, with another ETag, from the second request for bytes on",
  gated: "401: the file is only for people who are signed in",
  missing: "404",
  busy: "503 for the first request for bytes, then plain",
  breaks: "closes the connection after `breakAfter` bytes of each answer",
  hidden: "plain, but lets the page see no ETag and no Content-Range",
  elsewhere: "redirects to an origin that no policy names",
  noCors: "forgets to let other origins read the bytes",
  mute: "takes the request and never answers",
};

const tagOf = (bytes) => `"${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}"`;

/** What HTTP means by a Range header of one part: [start, end), or nothing where the whole is due. */
function part(range, length) {
  const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
  if (!match) return undefined;
  return [Number(match[1]), match[2] === "" ? length : Math.min(Number(match[2]) + 1, length)];
}

/**
 * Starts a hub for one file.
 *
 * `bytes` is the file, `name` its name; `breakAfter` the bytes before a connection breaks; `bytesPerSecond`
 * slows the answers down. After `holdAfter` bytes the first answer waits for `release()`, so that a test can do
 * something in the middle of it however fast the machine is; `holding` tells when it waits. `behaviour` may be changed
 * with `become`.
 *
 * Gives `url` (of the file), `requests` (of both origins, in order: {origin, method, url, range, ifRange,
 * cookie, authorization, status}), `become(behaviour)`, `holding`, `release()` and `close()`.
 */
export async function start({
  behaviour = "plain", bytes, name = "model.gguf", breakAfter = 1_000_000, bytesPerSecond = Infinity,
  holdAfter = Infinity,
}) {
  if (!(behaviour in behaviours)) throw new Error(`no behaviour '${behaviour}'`);
  const requests = [];
  // the same length: only the ETag tells the two apart before every byte is there
  const other = Buffer.from(bytes).map((byte) => byte ^ 0xff);
  let asked = 0; // for bytes
  let release;
  let holds;
  const holding = new Promise((resolve) => { holds = resolve; });
  const released = new Promise((resolve) => { release = resolve; });

  const note = (origin, request, status) => requests.push({
    origin, status, method: request.method, url: request.url, range: request.headers.range,
    ifRange: request.headers["if-range"], cookie: request.headers.cookie,
    authorization: request.headers.authorization,
  });
  const end = (origin, request, response, status, headers = {}) => {
    note(origin, request, status);
    response.writeHead(status, headers).end();
  };
  const open = { "Access-Control-Allow-Origin": "*" };
  // a simple range needs no question beforehand; whoever sends more (If-Range) is refused here
  const preflight = { ...open, "Access-Control-Allow-Methods": "GET, HEAD" };

  const holder = (origin) => async (request, response) => {
    if (request.method === "OPTIONS") return end(origin, request, response, 204, preflight);
    asked += 1;
    if (behaviour === "busy" && asked === 1) return end(origin, request, response, 503, open);
    const file = behaviour === "changed" && asked > 1 ? other : bytes;
    const range = behaviour === "noRanges" ? undefined : part(request.headers.range, file.length);
    if (range && range[0] >= range[1]) {
      const headers = { ...open, "Content-Range": `bytes */${file.length}` };
      return end(origin, request, response, 416, headers);
    }
    const [from, to] = range ?? [0, file.length];
    const status = range ? 206 : 200;
    note(origin, request, status);
    response.writeHead(status, {
      ...(behaviour === "noCors" ? {} : open),
      ...(behaviour === "hidden" ? {} : { "Access-Control-Expose-Headers": "ETag, Content-Range" }),
      "Content-Type": "application/octet-stream",
      "Content-Length": to - from,
      ETag: tagOf(file),
      ...(range ? { "Content-Range": `bytes ${from}-${to - 1}/${file.length}` } : {}),
    });
    const until = behaviour === "breaks" ? Math.min(to, from + breakAfter) : to;
    const due = request.method === "HEAD" ? [] : file.subarray(from, until);
    const held = asked === 1 ? Math.min(holdAfter, due.length) : due.length;
    await send(response, due.slice(0, held), bytesPerSecond);
    if (held < due.length) {
      holds();
      await Promise.race([released, once(response, "close")]);
      await send(response, due.slice(held), bytesPerSecond);
    }
    if (until < to) response.destroy();
    else response.end();
  };

  const holders = [];
  for (const host of ["localhost", "127.0.0.1"]) {
    const server = await listen((origin) => holder(origin), host);
    holders.push(server);
  }
  const front = await listen((origin) => (request, response) => {
    if (request.method === "OPTIONS") return end(origin, request, response, 204, preflight);
    if (behaviour === "mute") {
      note(origin, request, 0);
      return once(response, "close");
    }
    if (behaviour === "gated") return end(origin, request, response, 401, open);
    if (behaviour === "missing") return end(origin, request, response, 404, open);
    const target = holders[behaviour === "elsewhere" ? 1 : 0].origin;
    end(origin, request, response, 302, { ...open, Location: `${target}/bytes/${name}?signed=1` });
  }, "localhost");

  const servers = [front, ...holders];
  return {
    url: `${front.origin}/resolve/main/${name}`,
    requests,
    holding,
    release,
    become(next) {
      if (!(next in behaviours)) throw new Error(`no behaviour '${next}'`);
      behaviour = next;
    },
    async close() {
      await Promise.all(servers.map(({ server }) => {
        const closed = once(server, "close");
        server.close();
        server.closeAllConnections();
        return closed;
      }));
    },
  };
}

async function listen(answer, host) {
  const server = createServer();
  server.listen(0, host);
  await once(server, "listening");
  const origin = `http://${host}:${server.address().port}`;
  server.on("request", answer(origin));
  return { server, origin };
}

/** Writes bytes, at most so many a second; ends early where nobody listens any more. */
async function send(response, bytes, bytesPerSecond) {
  const step = Math.max(1, Math.min(1 << 16, Math.ceil(bytesPerSecond / 20)));
  for (let at = 0; at < bytes.length && !response.destroyed; at += step) {
    if (!response.write(bytes.subarray(at, at + step))) {
      // whichever does not come must not be listened for any longer
      const over = new AbortController();
      await Promise.race(["drain", "close"].map((event) => once(response, event, { signal: over.signal })));
      over.abort();
    }
    if (bytesPerSecond < Infinity) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * step / bytesPerSecond));
    }
  }
}
