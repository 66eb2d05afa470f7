// The native command line on Chromium's own software GPU, and what page and program are compared by.

import { execFile } from "node:child_process";
import { delimiter, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const driver = process.env.HEARTH_SWIFTSHADER ?? "/usr/lib/chromium/vk_swiftshader_icd.json";
const root = fileURLToPath(new URL("../../", import.meta.url));

/** Runs `hearth` and gives what it prints. `HEARTH_BIN` may name a program that is built already. */
export async function hearth(...args) {
  // Chromium brings the Vulkan loader too, which a machine without Vulkan has nowhere else
  const libraries = [process.env.LD_LIBRARY_PATH, dirname(driver)].filter(Boolean).join(delimiter);
  const env = { ...process.env, VK_DRIVER_FILES: driver, LD_LIBRARY_PATH: libraries };
  const built = process.env.HEARTH_BIN;
  const [program, before] = built ? [built, []] : ["cargo", ["run", "--quiet", "--package", "hearth-cli", "--"]];
  const { stdout } = await promisify(execFile)(program, [...before, ...args], { cwd: root, env, maxBuffer: 1 << 24 });
  return stdout;
}

/** The finished run as the page keeps it. */
export const record = (page) => page.evaluate(async () => {
  const walk = async (folder) => {
    for await (const entry of folder.values()) {
      if (entry.kind === "directory") {
        const found = await walk(entry);
        if (found) return found;
      } else if (/^run(\.new)?$/.test(entry.name)) {
        return JSON.parse(await (await entry.getFile()).text()).record;
      }
    }
    return undefined;
  };
  return walk(await navigator.storage.getDirectory());
});

/** How far the losses of two histories are apart, step by step. */
export function lossesApart(here, there) {
  const [a, b] = [here, there].map(({ steps }) => steps.map((step) => step.loss));
  if (a.length !== b.length) throw new Error(`${a.length} steps and ${b.length}`);
  return a.map((loss, i) => Math.abs(loss - b[i]));
}

/** The probabilities of the class to find, in a table of predictions: the last column. */
export const probabilities = (csv) =>
  csv.trim().split(/\r?\n/).map((line) => Number(line.split(/[;,\t]/).at(-1))).filter(Number.isFinite);

/** How far two lists of numbers are apart at most. */
export function mostApart(here, there) {
  if (here.length !== there.length) throw new Error(`${here.length} numbers and ${there.length}`);
  return Math.max(...here.map((value, i) => Math.abs(value - there[i])));
}
