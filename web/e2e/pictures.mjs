// The pictures of the documents: every screen, light and dark, and a walk through all of them, from the page on a
// real run. `cargo xtask pictures` starts it.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch, open } from "./browser.mjs";
import { epochs, fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";
import { moving } from "./webp.mjs";

const folder = process.argv[2] ?? "../../docs/pictures";
const size = { width: 1200, height: 800 };
/** The recording is made of smaller frames: it has many. */
const small = { width: 900, height: 600 };
/** Bytes that a picture may have, and the recording. */
const LARGEST = 60_000;
const LONGEST = 1_500_000;

/** Steps of the training between two frames of the recording. */
const STRIDE = 7;

/** The text that is tried. */
const TRIED = "the soup was lovely and so was the day";

/** What is seen now, as WebP: smaller than PNG, and Playwright's own screenshots know none. */
async function seen(context, page, quality) {
  const devtools = await context.newCDPSession(page);
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality });
  await devtools.detach();
  return Buffer.from(data, "base64");
}

function save(name, bytes, most) {
  if (bytes.length > most) throw new Error(`${name} has ${bytes.length} bytes, more than ${most}`);
  writeFileSync(join(folder, name), bytes);
  console.log(`${name}: ${bytes.length} bytes`);
}

/** Takes a screen in both color schemes, from its top. */
async function screen(context, page, name) {
  await page.evaluate(() => document.activeElement?.blur());
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    save(`${name}-${colorScheme}.webp`, await seen(context, page, 75), LARGEST);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** Waits until no notice is over the page any more. */
const quiet = (page) => page.waitForFunction(() => !document.querySelector('[data-test="notice"][data-kind="good"]'));

/** Every screen at its most telling. `also` is called at each one too. */
async function walk(page, also) {
  await loadModel(page);
  await quiet(page);
  await also("model");
  await openTable(page, fixture("moods.csv"), "happy");
  await quiet(page);
  await page.evaluate(() => document.querySelector('[data-test="data-facts"]').scrollIntoView());
  await also("data");
  await fillRecipe(page);
  await part(page, "start").and(page.locator(":enabled")).waitFor();
  await also("recipe");
  await part(page, "start").click();
  await part(page, "loss-curve").waitFor();
  await also("train");
  await part(page, "screen-results").waitFor();
  await quiet(page);
  await also("results");
  await go(page, "use");
  await part(page, "try-text").fill(TRIED);
  await part(page, "try-result").getByText("happy").waitFor();
  await also("use");
}

async function stills(browser) {
  const { context, page } = await open(browser, { viewport: size });
  await walk(page, async (name) => {
    if (name === "recipe") return;
    if (name === "train") {
      await epochs(page, 3);
      await page.evaluate(() => scrollTo(0, 0));
    }
    await screen(context, page, name);
  });
  await context.close();
}

/** About twenty seconds: the screens one after the other, and the training as it runs. */
async function recording(browser) {
  const { context, page } = await open(browser, { viewport: small });
  const frames = [];
  const take = async (milliseconds) => {
    const still = await seen(context, page, 50);
    if (frames.at(-1)?.still.equals(still)) frames.at(-1).milliseconds += milliseconds;
    else frames.push({ still, milliseconds });
  };
  await part(page, "load-tiny-gemma3").waitFor();
  await take(2000);
  await walk(page, async (name) => {
    if (name !== "train") return take(2000);
    // a minute or ten: the recording shows every few steps
    for (let next = 1; ; next += STRIDE) {
      const handle = await page.waitForFunction((next) => {
        if (document.querySelector('[data-test="screen-results"]')) return "over";
        const words = document.querySelector('[data-test="step-train"] .standing').textContent;
        return Number(/^step (\d+) of/.exec(words)?.[1]) >= next && "training";
      }, next);
      if (await handle.jsonValue() === "over") return;
      await take(400);
    }
  });
  await context.close();
  const seconds = frames.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
  console.log(`${frames.length} frames, ${seconds} seconds`);
  save("walk.webp", moving(frames, small), LONGEST);
}

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  await stills(browser);
  await recording(browser);
} finally {
  await browser.close();
}
