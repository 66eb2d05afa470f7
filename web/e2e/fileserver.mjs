// A host that serves one large file from the disk, by ranges, and counts what it gives.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { pipeline } from "node:stream/promises";

/**
 * Serves `path` at `url`, on an origin that the test server's policy lets the loader reach. `answers` has
 * what was asked for, in order: {range, from, sent}.
 */
export async function serveFile(path) {
  const { size } = statSync(path);
  const answers = [];
  const server = createServer(async (request, response) => {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const [from, to] = range ? [Number(range[1]), Number(range[2] || size - 1) + 1] : [0, size];
    const answer = { range: request.headers.range, from, sent: 0 };
    const headers = {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Expose-Headers": "ETag, Content-Range",
      "Content-Length": to - from,
      ETag: `"${size}"`,
      ...(range ? { "Content-Range": `bytes ${from}-${to - 1}/${size}` } : {}),
    };
    if (request.method === "OPTIONS") return response.writeHead(204, headers).end();
    answers.push(answer);
    response.writeHead(range ? 206 : 200, headers);
    const file = createReadStream(path, { start: from, end: to - 1, highWaterMark: 1 << 20 });
    file.on("data", (chunk) => { answer.sent += chunk.length; });
    // who went away needs no more
    await pipeline(file, response).catch(() => undefined);
    return undefined;
  });
  server.listen(0, "localhost");
  await once(server, "listening");
  return {
    size,
    answers,
    url: `http://localhost:${server.address().port}/model.gguf`,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
