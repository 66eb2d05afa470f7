// What a user does on the page, as tests do it: every step ends when the page says that it is done.

import { mkdtempSync, readdirSync, renameSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE, downloadFolder, inFirefox } from "./browser.mjs";

export const fixture = (name) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

/** A part of the page by its `data-test`. */
export const part = (page, name) => page.locator(`[data-test="${name}"]`);

/** Goes to a screen. */
export async function go(page, screen) {
  await part(page, `step-${screen}`).click();
  await part(page, `screen-${screen}`).waitFor();
}

/** What the page has told so far that is no good news. */
export const complaints = (page) =>
  page.locator('[data-test="notice"]:not([data-kind="good"])').allTextContents();

/** Loads the tiny model from the page's own server. */
export async function loadModel(page) {
  await go(page, "model");
  await part(page, "load-tiny-gemma3").click();
  await part(page, "model-ready").waitFor();
}

/** Drops a table and names the class to find. */
export async function openTable(page, file, positive) {
  const name = file.name ?? file.split(/[/\\]/).at(-1);
  await go(page, "data");
  await page.locator("#data-drop").setInputFiles(file);
  await part(page, "data-name").getByText(name).waitFor();
  await part(page, "preview").waitFor();
  if (positive) await part(page, "positive").selectOption(positive);
  await part(page, "next-train").and(page.locator(":enabled")).waitFor();
}

/** Fills in what the fixture's README says makes the tiny model learn. */
export async function fillRecipe(page, { epochs = 8, seed = 3 } = {}) {
  await go(page, "train");
  await part(page, "question").fill("Is the writer happy");
  await part(page, "word-happy").fill("Yes");
  await part(page, "word-sad").fill("No");
  await setField(page, "epochs", epochs);
  await setField(page, "rate", 0.01);
  await setField(page, "seed", seed);
}

/** Sets a number of the recipe; opens the panel where it lies hidden. */
export async function setField(page, name, value) {
  const field = part(page, name === "epochs" ? "epochs" : `field-${name}`);
  if (!(await field.isVisible())) await page.getByText("Advanced: the whole recipe").click();
  // typed, as a user does: what Firefox' driver fills in is no change to a field
  await field.selectText();
  await field.pressSequentially(String(value));
  await field.blur();
}

/** A figure of the results, as a number. */
export async function figure(page, name) {
  return Number(await part(page, name).locator(".number").textContent());
}

/** What a click downloads, as text or bytes by name. */
export async function downloads(page, count, click, within = PATIENCE) {
  if (inFirefox) return downloadsInFirefox(page, count, click, within);
  const files = [];
  const all = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${files.length} of ${count} downloads came`)), within).unref();
    page.on("download", async function take(download) {
      files.push({ name: download.suggestedFilename(), path: await download.path() });
      if (files.length === count) resolve(page.off("download", take));
    });
  });
  await click();
  await all;
  return files;
}

/** The files that come into Firefox's folder. Each is moved away: the next of its name would get another one. */
async function downloadsInFirefox(page, count, click, within) {
  const folder = downloadFolder(page);
  const files = [];
  const sizes = new Map();
  const end = Date.now() + within;
  await click();
  while (files.length < count) {
    if (Date.now() > end) throw new Error(`${files.length} of ${count} downloads came`);
    await sleep(200);
    for (const name of readdirSync(folder).filter((name) => !name.endsWith(".part"))) {
      const { size } = statSync(join(folder, name));
      // complete: it grows no more
      if (size > 0 && sizes.get(name) === size) {
        const path = join(mkdtempSync(join(tmpdir(), "hearth-download-")), name);
        renameSync(join(folder, name), path);
        files.push({ name, path });
        sizes.delete(name);
      } else sizes.set(name, size);
    }
  }
  return files;
}

/** Waits until so many epochs are over; before the first one the table has a row of words. */
export const epochs = (page, count) =>
  part(page, "epochs-table").locator("tbody tr:not(:has(td[colspan]))").nth(count - 1).waitFor();

/** Drops a table to classify and says yes to how it is read, as the page proposes it. */
export async function classify(page, file) {
  await page.locator("#classify-drop").setInputFiles(file);
  await part(page, "classify-start").and(page.locator(":enabled")).click();
}
