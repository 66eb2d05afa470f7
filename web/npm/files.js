// Models, classifiers and tables, from wherever the caller has them.

import { HearthError } from "./error.js";

/**
 * A file: its address, or its bytes.
 * @typedef {string | URL | Blob | ArrayBuffer | Uint8Array} Source
 */
/** @typedef {{ stage: "fetching", file: string, done: number, total: number }} Fetching */

/**
 * A file with its name. An address is fetched by the page, as the engine reaches no network.
 * @param {Source} source
 * @param {string} what for errors, such as "model"
 * @param {{ onProgress?: (progress: Fetching) => void, signal?: AbortSignal }} options
 * @returns {Promise<{ name: string, blob: Blob }>}
 */
export async function open(source, what, { onProgress, signal } = {}) {
  if (source instanceof Blob) return { name: "name" in source ? String(source.name) : what, blob: source };
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    return { name: what, blob: new Blob([/** @type {ArrayBuffer} */ (source)]) };
  }
  if (typeof source !== "string" && !(source instanceof URL)) {
    throw new HearthError(`\`${what}\` is ${source === null ? "null" : typeof source}.`,
      "Give it an address, or the file's bytes as a Blob, an ArrayBuffer or a Uint8Array.");
  }
  const address = new URL(source, document.baseURI);
  const file = decodeURIComponent(address.pathname.split("/").at(-1) ?? "") || what;
  const response = await fetch(address, { signal }).catch((error) => {
    signal?.throwIfAborted();
    throw new HearthError(`${what}: ${address.href} cannot be fetched: ${error.message}.`,
      "Check the address, and that its server allows this page's origin (CORS).");
  });
  if (!response.ok || !response.body) {
    throw new HearthError(`${what}: ${address.href}: the server answers ${response.status}.`, "Check the address.");
  }
  // packed on the way, the length says nothing of the file's
  const packed = response.headers.has("Content-Encoding");
  const total = packed ? 0 : Number(response.headers.get("Content-Length") ?? 0);
  let done = 0;
  const counted = response.body.pipeThrough(new TransformStream({
    transform(chunk, controller) {
      done += chunk.byteLength;
      onProgress?.({ stage: "fetching", file, done, total });
      controller.enqueue(chunk);
    },
  }));
  const blob = await new Response(counted).blob().catch((error) => {
    signal?.throwIfAborted();
    throw new HearthError(`${what}: ${address.href}: the connection broke after ${done} bytes: ${error.message}.`, "Try again.");
  });
  if (total > 0 && done !== total) {
    throw new HearthError(`${what}: ${address.href}: ${done} of ${total} bytes came.`, "Try again.");
  }
  return { name: file, blob };
}

/**
 * Texts as a table of one column, in JSON Lines: no text needs a rule for quotes or delimiters.
 * @param {string[]} texts
 */
export function tableOf(texts) {
  if (!Array.isArray(texts)) throw new HearthError("The texts are not an array.", "Give an array of strings.");
  const lines = texts.map((text, at) => {
    if (typeof text !== "string") throw new HearthError(`texts[${at}] is ${typeof text}.`, "Give strings.");
    if (!text.trim()) throw new HearthError(`texts[${at}] is empty.`, "Leave empty texts out.");
    return `${JSON.stringify({ text: text.toWellFormed() })}\n`;
  });
  return new Blob(lines, { type: "application/jsonl" });
}

/**
 * The records of a CSV file as Hearth writes it: comma, double quotes, line feeds between records.
 * @param {string} text
 * @returns {string[][]}
 */
export function records(text) {
  /** @type {string[][]} */
  const all = [];
  /** @type {string[]} */
  let record = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/gy)) {
    if (end === "" && quoted === undefined && plain === "" && record.length === 0) break;
    record.push(quoted?.replaceAll('""', '"') ?? plain);
    if (end !== ",") {
      all.push(record);
      record = [];
    }
  }
  return all;
}
