// Classifiers that Hearth trains, in any page: opened, used and trained on the visitor's own GPU.

import { Engine } from "./engine.js";
import { HearthError } from "./error.js";
import { open, records, tableOf } from "./files.js";

export { HearthError };

/**
 * @typedef {import("./protocol.d.ts").Recipe} Recipe
 * @typedef {import("./protocol.d.ts").PromptSpec} PromptSpec
 * @typedef {import("./protocol.d.ts").TableOptions} TableOptions
 * @typedef {import("./protocol.d.ts").SplitChoice} SplitChoice
 * @typedef {import("./protocol.d.ts").WeightsAs} WeightsAs
 * @typedef {import("./protocol.d.ts").ClassifierSummary} ClassifierSummary
 * @typedef {import("./protocol.d.ts").TrainProgress} TrainProgress
 * @typedef {import("./protocol.d.ts").Epoch} Epoch
 * @typedef {import("./protocol.d.ts").Evaluated} Evaluated
 * @typedef {import("./protocol.d.ts").History} History
 * @typedef {import("./protocol.d.ts").DataPreview} DataPreview
 * @typedef {import("./files.js").Source} Source
 */
/**
 * A model: one GGUF file, or the files of a safetensors folder with their names.
 * @typedef {Source | File[]} Model
 */
/**
 * What is being done.
 * @typedef {import("./files.js").Fetching
 *   | { stage: "loading", done: number, total: number }
 *   | { stage: "reading", done: number, total: number }
 *   | { stage: "scoring", done: number, total: number }
 *   | { stage: "training", progress: TrainProgress }
 *   | { stage: "epoch", epoch: Epoch }} Progress
 */
/**
 * @typedef {object} Common
 * @property {Model} model the model that the classifier was, or is to be, trained on
 * @property {WeightsAs} [weights] how weights are held on the GPU; large models of 16 bits are held in 4 bits
 * @property {(progress: Progress) => void} [onProgress]
 * @property {(warning: string) => void} [onWarning] by default they go to the console
 * @property {AbortSignal} [signal] ends it early
 * @property {import("./engine.js").EngineFiles} [engine] where worker.js and worker_bg.wasm are, for build tools that
 *   do not follow `new URL("./worker.js", import.meta.url)`
 */
/** @typedef {Common & { bundle: Source }} LoadOptions */
/**
 * @typedef {object} FitSettings
 * @property {string} [text] the column of the texts; guessed by default, as on Hearth's page
 * @property {string} [label] the column of the classes; guessed by default
 * @property {string} [positive] of two classes, the one to find
 * @property {string} [question] what the model is asked about each text
 * @property {Record<string, string>} [words] what it answers for a class; by default the class's name
 * @property {Partial<PromptSpec>} [prompt] everything else of the prompt
 * @property {Partial<Recipe>} [recipe] what differs from the default recipe
 * @property {SplitChoice} [split] which rows evaluate; by default the table's own split column, or a fifth at random
 * @property {Partial<TableOptions>} [reading] how the table is read, where the guess is wrong
 * @property {number} [memory] GPU memory that training may use, in bytes; 4 GiB by default
 * @property {string} [name] the classifier's name
 */
/** @typedef {Common & FitSettings} FitOptions */
/** What training came to: its losses, and the figures on rows that were not used in training.
 * @typedef {{ history: History, test: Evaluated }} Fitted
 */

/** Marks runs of this package in the browser's storage, which Hearth's page may share. */
const RUN = "hearth-classifier package";
const MEMORY = 4 * 2 ** 30;

export class Classifier {
  /** @type {Engine} */
  #engine;
  /** @type {ClassifierSummary} */
  #summary;
  /** @type {Fitted | undefined} */
  #fitted;

  /** Not for callers: use {@link Classifier.load} or {@link fit}.
   * @param {Engine} engine @param {ClassifierSummary} summary @param {Fitted} [fitted]
   */
  constructor(engine, summary, fitted) {
    this.#engine = engine;
    this.#summary = summary;
    this.#fitted = fitted;
  }

  /**
   * Opens a classifier's file on the model that it was trained on.
   * @param {LoadOptions} options
   */
  static async load(options) {
    const bundle = await open(options?.bundle, "bundle", options);
    return withModel(options, async (engine) => {
      const { signal } = options;
      const { body } = await engine.ask("OpenBundle", "Classifier", { blobs: [bundle.blob], signal });
      if (body.note) warn(options, body.note);
      return new Classifier(engine, body);
    });
  }

  /** The classes, in the order of the probabilities. */
  get classes() {
    return [...this.#summary.classes];
  }

  /** Its prompt, threshold and figures. */
  get summary() {
    return this.#summary;
  }

  /** What training came to; only of a classifier that {@link fit} has trained. */
  get fitted() {
    return this.#fitted;
  }

  /**
   * The class of each text: of two, the positive one from its threshold on; of more, the likeliest.
   * @param {string[]} texts
   * @param {{ onProgress?: (progress: Progress) => void, signal?: AbortSignal }} [options]
   */
  async predict(texts, options) {
    return (await this.#classified(texts, options)).map((record) => record[1]);
  }

  /**
   * The calibrated probabilities of each text, in the order of `classes`; six digits, as `hearth predict` writes them.
   * @param {string[]} texts
   * @param {{ onProgress?: (progress: Progress) => void, signal?: AbortSignal }} [options]
   */
  async predictProba(texts, options) {
    return (await this.#classified(texts, options)).map((record) => record.slice(2).map(Number));
  }

  /** @param {string[]} texts @param {{ onProgress?: (progress: Progress) => void, signal?: AbortSignal }} [options] */
  async #classified(texts, options = {}) {
    const table = tableOf(texts);
    if (texts.length === 0) return [];
    const { blobs } = await this.#engine.ask({
      ClassifyFile: { name: "texts.jsonl", options: reading({ format: "json-lines" }), text: { column: 0 }, for_spreadsheets: false },
    }, "File", { blobs: [table], told: teller(options), signal: options.signal });
    const [, ...rows] = records(await blobs[0].text());
    if (rows.length !== texts.length || rows.some((row) => row.length !== 2 + this.#summary.classes.length)) {
      throw new HearthError(`The engine gave ${rows.length} rows for ${texts.length} texts.`,
        "Take all files of the package from the same release.");
    }
    return rows;
  }

  /** The classifier as a file, for `Classifier.load`, Hearth's page and the command line. */
  async toBlob(name = this.#summary.name) {
    const { blobs } = await this.#engine.ask({ ExportBundle: { name } }, "File");
    return blobs[0];
  }

  /** Gives the GPU's memory back. */
  close() {
    this.#engine.close();
  }
}

/**
 * Trains a classifier on a table with a text column and a label column, and evaluates it on rows that were not used in
 * training. The table is a file in any form that Hearth's page reads, or an array of rows.
 * @param {Source | Record<string, unknown>[]} table
 * @param {FitOptions} options
 */
export async function fit(table, options) {
  const file = Array.isArray(table) ? rowsFile(table) : await open(table, "table", options);
  return withModel(options, async (engine) => {
    const told = teller(options);
    const { signal } = options;
    await forgetBroken(engine);
    const { body: data } = await engine.ask(
      { OpenData: { name: file.name, options: reading(options.reading) } }, "Data", { blobs: [file.blob], told, signal });
    data.warnings.forEach((warning) => warn(options, warning));
    const recipe = /** @type {Recipe} */ (options.recipe ?? {});
    const prompt = promptOf(options);
    const choices = choicesOf(data, options);
    const { body: report } = await engine.ask({ SetRoles: { choices, spec: prompt } }, "Prepared", { told, signal });
    report.warnings.forEach((warning) => warn(options, warning));
    if (report.max_tokens !== null && options.prompt?.max_tokens === undefined) prompt.max_tokens = report.max_tokens;
    const memory = options.memory ?? MEMORY;
    const { body } = await engine.ask(
      { Train: { name: RUN, spec: prompt, recipe, memory, zero_shot: false } }, "Trained", { told, signal });
    const name = options.name ?? "classifier";
    const { blobs } = await engine.ask({ ExportBundle: { name } }, "File");
    // it is the caller's to keep; nothing stays in the browser's storage
    await engine.ask({ DeleteRun: { key: body.run.key } }, "Runs");
    const { body: summary } = await engine.ask("OpenBundle", "Classifier", { blobs });
    // only Hearth's page lets somebody skip the evaluation
    const test = /** @type {Evaluated} */ (body.test);
    return new Classifier(engine, summary, { history: body.run.history, test });
  });
}

/** How a table is read: what is not said is guessed. @param {Partial<TableOptions>} [said] */
function reading(said = {}) {
  return /** @type {TableOptions} */ (said);
}

/** Rows of a table in JSON Lines. @param {Record<string, unknown>[]} rows */
function rowsFile(rows) {
  if (rows.length === 0) throw new HearthError("The table has no rows.", "Give rows with a text and a label.");
  return { name: "table.jsonl", blob: new Blob(rows.map((row) => `${JSON.stringify(row)}\n`), { type: "application/jsonl" }) };
}

/** @param {FitOptions} options @returns {PromptSpec} */
function promptOf({ prompt, question, words }) {
  const given = Object.entries(words ?? {}).map(([name, word]) => ({ class: name, word }));
  const all = { ...prompt, ...(question === undefined ? {} : { question }), ...(given.length ? { words: given } : {}) };
  // what is missing takes Hearth's default
  return /** @type {PromptSpec} */ (all);
}

/** @param {DataPreview} data @param {FitOptions} options */
function choicesOf(data, { text, label, positive, split, recipe }) {
  const column = (/** @type {string} */ name, /** @type {string} */ option) => {
    const at = data.columns.indexOf(name);
    if (at >= 0) return at;
    throw new HearthError(`${data.name} has no column ${JSON.stringify(name)}; its columns are ${data.columns.join(", ")}.`,
      `Name one of them as \`${option}\`.`);
  };
  const roles = { ...data.roles };
  if (text !== undefined) roles.text = { column: column(text, "text") };
  if (label !== undefined) roles.label = column(label, "label");
  if (roles.label === null) {
    throw new HearthError(`Which column of ${data.name} has the classes is not clear.`,
      `Name it as \`label\`; the columns are ${data.columns.join(", ")}.`);
  }
  const classes = data.values[roles.label]?.filter(([name]) => name !== "").map(([name]) => name);
  if (classes?.length === 2 && !classes.includes(positive ?? "")) {
    const found = positive === undefined ? "Which of two classes is the one to find is not said" : `No row is of the class ${JSON.stringify(positive)}`;
    throw new HearthError(`${found}; ${data.name} has ${classes.map((name) => JSON.stringify(name)).join(" and ")}.`,
      "Name one of them as `positive`.");
  }
  return {
    roles, rule: /** @type {const} */ ("as-is"), positive: positive ?? null, drop_bad: true, split: split ?? /** @type {const} */ ("auto"), limit: null,
    labels: { merge: false, missing: [], drop: [] },
    validation_share: recipe?.validation_share ?? 0.2, seed: 0, validation_seed: recipe?.seed ?? 0,
  };
}

/** Deletes what a training of this package left in the storage when its page was closed. @param {Engine} engine */
async function forgetBroken(engine) {
  const { body } = await engine.ask("ListRuns", "Runs");
  for (const run of body.runs.filter((run) => run.name === RUN && run.state !== "elsewhere")) {
    await engine.ask({ DeleteRun: { key: run.key } }, "Runs");
  }
}

/**
 * An engine with its model, for `use`; closed where that fails.
 * @template T
 * @param {Common} options
 * @param {(engine: Engine) => Promise<T>} use
 */
async function withModel(options, use) {
  const { model, signal } = options;
  const opened = Array.isArray(model)
    ? model.map((file) => ({ name: file.name, blob: /** @type {Blob} */ (file) }))
    : [await open(model, "model", options)];
  const engine = await Engine.start(options.engine);
  try {
    const files = opened.map(({ name }) => ({ name, pieces: null }));
    const blobs = opened.map(({ blob }) => blob);
    const name = opened[0]?.name.replace(/\.[^.]*$/, "") ?? "model";
    const load = { LoadModel: { name, files, weights: options.weights ?? /** @type {const} */ ("auto") } };
    const { body } = await engine.ask(load, "ModelReady", { blobs, told: teller(options), signal });
    body.notes.forEach((note) => warn(options, note));
    return await use(engine);
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** @param {{ onWarning?: (warning: string) => void }} options @param {string} what */
function warn({ onWarning = (warning) => console.warn(`Hearth: ${warning}`) }, what) {
  onWarning(what);
}

/**
 * Tells the caller what is being done.
 * @param {{ onProgress?: (progress: Progress) => void, onWarning?: (warning: string) => void }} options
 * @returns {import("./engine.js").Told}
 */
function teller(options) {
  const tell = options.onProgress ?? (() => undefined);
  return (name, body) => {
    if (name === "Warning") warn(options, body.what);
    else if (name === "Loading") tell({ stage: "loading", done: body.done, total: body.total });
    else if (name === "Reading") tell({ stage: "reading", done: body.bytes, total: body.total });
    else if (name === "Scoring") tell({ stage: "scoring", done: body.done, total: body.of });
    else if (name === "Training") tell({ stage: "training", progress: body });
    else if (name === "EpochEnded") tell({ stage: "epoch", epoch: body });
  };
}
