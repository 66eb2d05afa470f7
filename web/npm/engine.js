// The engine worker of Hearth's page, started from any page, under a policy of its own.
//
// The engine refuses to start where nothing keeps it from the network. A page of somebody else may have no policy, so
// the worker is made inside an empty frame that has one: a worker whose script is a blob inherits the policy of the
// document that made it. It forbids every connection. The module comes here, and is handed over.

import { HearthError } from "./error.js";

/** Where bundlers and plain servers have the engine's two files. */
const SCRIPT = new URL("./worker.js", import.meta.url);
const MODULE = new URL("./worker_bg.wasm", import.meta.url);

/** Answers behind which more follow; `FromEngine::ends` in Rust has the same list. */
const ON_THE_WAY = new Set(["Warning", "Loading", "Reading", "Scoring", "Training", "EpochEnded", "Stored"]);

/**
 * @typedef {import("./protocol.d.ts").ToEngine} ToEngine
 * @typedef {import("./protocol.d.ts").FromEngine} FromEngine
 */
/**
 * A message's name, and the names of all messages of a union.
 * @template T
 * @typedef {T extends string ? T : T extends object ? keyof T : never} NameOf
 */
/**
 * What a message of this name holds.
 * @template T
 * @template {PropertyKey} N
 * @typedef {Extract<T, { [key in N]: unknown }> extends { [key in N]: infer B } ? B : undefined} BodyOf
 */
/** @typedef {{ blobs: Blob[], tell: (name: string, body: any, blobs: Blob[]) => void, end: (error?: unknown) => void }} Waiting */
/** @typedef {{ script?: string | URL, module?: string | URL }} EngineFiles */
/** @typedef {(name: NameOf<FromEngine>, body: any) => void} Told */

export class Engine {
  /** @type {HTMLIFrameElement | undefined} */
  #frame;
  /** @type {Worker | undefined} */
  #worker;
  /** @type {Map<number, { told?: Told, resolve: (answer: Answer) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  #next = 1;
  #build = "";
  /** @type {Error | undefined} */
  #ended;
  /** @type {(error: Error) => void} */
  #refuse = () => undefined;

  /**
   * Starts an engine. Its files are those beside this module, unless `files` says where a build tool has put them.
   * @param {EngineFiles} [files]
   */
  static async start(files = {}) {
    const engine = new Engine();
    try {
      await engine.#start(address(files.script, SCRIPT), address(files.module, MODULE));
    } catch (error) {
      engine.close();
      throw error;
    }
    return engine;
  }

  /** @param {URL} script @param {URL} module */
  async #start(script, module) {
    if (typeof document === "undefined") {
      throw new HearthError("There is no document here.", "Call this from a page, not from a worker or from Node.");
    }
    if (!globalThis.isSecureContext) {
      throw new HearthError(`Browsers offer WebGPU on secure pages only, and ${location.origin} is none.`,
        "Serve the page over HTTPS, or from localhost.");
    }
    const compiled = compile(module);
    // it is awaited below; until then its failure is nobody's
    compiled.catch(() => undefined);
    this.#frame = await policedFrame(script);
    const { Worker: FrameWorker } = /** @type {any} */ (this.#frame.contentWindow);
    const start = `import init from ${JSON.stringify(script.href)};\n` +
      "addEventListener('message', ({ data }) => init({ module_or_path: data }), { once: true });";
    const source = URL.createObjectURL(new Blob([start], { type: "text/javascript" }));
    try {
      const worker = /** @type {Worker} */ (new FrameWorker(source, { type: "module" }));
      this.#worker = worker;
      await new Promise((resolve, reject) => {
        const told = (/** @type {string} */ name, /** @type {any} */ body) => {
          if (name === "Ready") resolve(undefined);
          if (name !== "Refused") return;
          reject(new HearthError("The engine refuses to start: this browser did not apply the policy that keeps texts " +
            "in the page.", "Use a current Chrome, Edge, Firefox or Safari."));
        };
        this.#refuse = reject;
        worker.onmessage = ({ data }) => this.#receive(data, told);
        worker.onerror = (event) => {
          event.preventDefault?.();
          const what = event.message ?? `${script.href} cannot be loaded as a module`;
          const error = new HearthError(`The engine did not start or crashed: ${what}.`,
            `Check that ${script.href} and ${module.href} are served and come from the same release, and that the ` +
            "page's own Content Security Policy, if it has one, allows them.");
          this.#end(error);
        };
        compiled.then((ready) => worker.postMessage(ready), reject);
      });
    } finally {
      URL.revokeObjectURL(source);
    }
  }

  /**
   * Sends a request and waits for the answer that ends it.
   * @template {NameOf<FromEngine>} N
   * @param {ToEngine} body
   * @param {N} wanted the answer's name
   * @param {{ blobs?: Blob[], told?: Told, signal?: AbortSignal }} [options]
   * @returns {Promise<{ body: BodyOf<FromEngine, N>, blobs: Blob[] }>}
   */
  async ask(body, wanted, { blobs = [], told, signal } = {}) {
    signal?.throwIfAborted();
    if (this.#ended) throw this.#ended;
    const id = this.#next++;
    /** @type {Promise<Answer>} */
    const answered = new Promise((resolve, reject) => this.#waiting.set(id, { told, resolve, reject }));
    const cancel = () => this.#post(this.#next++, { Cancel: { request: id } });
    signal?.addEventListener("abort", cancel, { once: true });
    this.#post(id, body, blobs);
    const answer = await answered.finally(() => signal?.removeEventListener("abort", cancel));
    if (answer.name === wanted) return { body: answer.body, blobs: answer.blobs };
    if (answer.name === "Failed") throw new HearthError(answer.body.what, answer.body.advice);
    signal?.throwIfAborted();
    throw new HearthError(`The engine answered ${answer.name} where ${wanted} was expected.`,
      "Take all files of the package from the same release.");
  }

  /** @param {number} id @param {ToEngine} body @param {Blob[]} [blobs] */
  #post(id, body, blobs = []) {
    const text = JSON.stringify({ build: this.#build, id, body });
    this.#worker?.postMessage(blobs.length ? { text, blobs } : text);
  }

  /** @param {string | { text: string, blobs: Blob[] }} data @param {Told} unasked */
  #receive(data, unasked) {
    const { text, blobs } = typeof data === "string" ? { text: data, blobs: [] } : data;
    const { build, id, body } = JSON.parse(text);
    // the worker answers only who speaks as its own build does
    this.#build = build;
    const [name, inner] = /** @type {[NameOf<FromEngine>, any]} */ (
      typeof body === "string" ? [body, undefined] : Object.entries(body)[0]);
    if (name === "Failed" && inner.fatal) {
      return this.#end(new HearthError(inner.what, "Load the classifier again."));
    }
    // a request that the engine cannot read has no number to it, such as a recipe with a field that there is not
    if (name === "Failed" && id === 0) {
      return this.#end(new HearthError(`The engine cannot read the call: ${inner.what}.`, "Correct the options."));
    }
    const request = this.#waiting.get(id);
    if (!request) return unasked(name, inner);
    if (ON_THE_WAY.has(name)) return request.told?.(name, inner);
    this.#waiting.delete(id);
    // they come as objects of the frame, which are no `Blob`s to the page
    return request.resolve({ name, body: inner, blobs: blobs.map((blob) => new Blob([blob], { type: blob.type })) });
  }

  /** The engine is of no more use: all who wait are told. @param {Error} error */
  #end(error) {
    this.#ended ??= error;
    this.#refuse(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#worker?.terminate();
    this.#frame?.remove();
  }

  /** Ends the engine and gives its memory back. */
  close() {
    this.#end(new HearthError("This classifier is closed.", "Load it again."));
  }
}

/** @typedef {{ name: string, body: any, blobs: Blob[] }} Answer */

/** @param {string | URL | undefined} given @param {URL} usual */
function address(given, usual) {
  return given === undefined ? usual : new URL(given, document.baseURI);
}

/** @param {URL} address */
async function compile(address) {
  const advice = "Serve worker_bg.wasm of the package there, or say in `engine` where it is.";
  const response = await fetch(address).catch((error) => {
    throw new HearthError(`${address.href} cannot be fetched: ${error.message}.`, advice);
  });
  if (!response.ok) throw new HearthError(`${address.href}: the server answers ${response.status}.`, advice);
  // a server that does not know the type of .wasm
  const typed = response.headers.get("Content-Type")?.startsWith("application/wasm");
  try {
    return await (typed ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer()));
  } catch (error) {
    throw new HearthError(`${address.href} is not the engine: ${/** @type {Error} */ (error).message}.`, advice);
  }
}

/**
 * An empty frame whose policy allows the engine's script and nothing else.
 * @param {URL} script
 * @returns {Promise<HTMLIFrameElement>}
 */
function policedFrame(script) {
  // in a policy, these two end a rule
  const source = script.href.split(/[?#]/)[0].replaceAll(";", "%3B").replaceAll(",", "%2C");
  // what a worker's first module imports is checked as a worker, too
  const policy = `default-src 'none'; script-src blob: ${source} 'wasm-unsafe-eval'; worker-src blob: ${source}`;
  const frame = document.createElement("iframe");
  // the page's own style may show what is only `hidden`
  frame.style.display = "none";
  frame.title = "Hearth's engine";
  frame.srcdoc = `<meta http-equiv="Content-Security-Policy" content="${policy.replaceAll("&", "&amp;").replaceAll('"', "%22")}">`;
  return new Promise((resolve) => {
    frame.addEventListener("load", () => resolve(frame), { once: true });
    document.documentElement.append(frame);
  });
}
