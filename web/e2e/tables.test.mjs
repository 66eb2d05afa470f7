// Tables as people have them: the page says how it read them, and lets the user say otherwise.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { fillRecipe, fixture, go, loadModel, openTable, part } from "./steps.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const FRONTS = ["the train was", "my seat is", "the ride was", "this coach is"];
/** Twenty-four rows of a text and a label. */
const rows = (between, labels, end = "\n") =>
  Array.from({ length: 24 }, (_, i) => `${FRONTS[i % 4]} number ${i}${between}${labels[i % labels.length]}${end}`).join("");

/** Drops a table and waits until it was read. */
async function drop(page, name, buffer) {
  await go(page, "data");
  await page.locator("#data-drop").setInputFiles({ name, mimeType: "text/plain", buffer });
  await part(page, "data-name").getByText(name).waitFor();
}
const facts = (page, words) => part(page, "data-facts").filter({ hasText: words }).waitFor();
const warned = (page, words) => part(page, "read-warnings").filter({ hasText: words }).waitFor();

test("a guessed encoding is told and can be named", async () => {
  const { context, page } = await open(browser);
  const letters = { "х": 0xf5, "о": 0xee, "р": 0xf0, "ш": 0xf8, "п": 0xef, "л": 0xeb, "е": 0xe5, "з": 0xe7, "д": 0xe4, "а": 0xe0, "т": 0xf2, " ": 0x20 };
  const text = `text,label\n${rows(" поезд ,", ["хорошо", "плохо"])}`;
  await drop(page, "trains.csv", Buffer.from([...text].map((c) => letters[c] ?? c.charCodeAt(0))));
  await warned(page, /encoding is guessed: windows-1251/);
  const notice = part(page, "notice").filter({ hasText: "encoding is guessed" });
  await notice.filter({ hasText: "trains.csv" }).waitFor();
  await part(page, "preview").filter({ hasText: "хорошо" }).waitFor();
  await part(page, "encoding").selectOption("KOI8-R");
  await part(page, "preview").filter({ hasNotText: "хорошо" }).waitFor();
  await part(page, "encoding").selectOption("windows-1251");
  await part(page, "preview").filter({ hasText: "хорошо" }).waitFor();
  assert.equal(await part(page, "read-warnings").locator("li").count(), 0, "what is named is no guess");
  assert.equal(await notice.count(), 0, "a notice of the reading before goes with it");
  await context.close();
});

test("a file that no guess can read is read as the user says", async () => {
  const { context, page } = await open(browser);
  // some lines in UTF-8, some in another encoding: named, and left to the user
  const mixed = Buffer.concat([
    Buffer.from(`text,mood\n${"my café is good,happy\n".repeat(12)}`),
    Buffer.from("the caf\xe9 was bad,sad\n".repeat(12), "latin1"),
  ]);
  const told = part(page, "notice").filter({ hasText: "mixes encodings" });
  const choose = async (prefix) => {
    await part(page, `${prefix}unread`).getByText("mixed.csv was not read").waitFor();
    await told.waitFor();
    // another reading that fails leaves the choice open, with what was chosen
    await part(page, `${prefix}delimiter`).selectOption(",");
    await part(page, "job").waitFor({ state: "detached" });
    await page.waitForFunction((name) => document.querySelector(`[data-test="${name}"]`)?.value === ",", `${prefix}delimiter`);
    await part(page, `${prefix}encoding`).selectOption("windows-1252");
    await part(page, `${prefix}unread`).waitFor({ state: "detached" });
  };
  await loadModel(page);
  await go(page, "data");
  const file = { name: "mixed.csv", mimeType: "text/csv", buffer: mixed };
  await page.locator("#data-drop").setInputFiles(file);
  await choose("new-");
  await facts(page, /24 rows, 2 columns/);

  await openTable(page, fixture("moods.csv"), "happy");
  await fillRecipe(page);
  await part(page, "zero-shot-only").and(page.locator(":enabled")).click();
  await part(page, "screen-results").waitFor();
  await go(page, "use");
  await page.locator("#classify-drop").setInputFiles(file);
  await choose("classify-");
  await part(page, "classify-facts").filter({ hasText: /24 rows, 2 columns/ }).waitFor();
  assert.equal(await part(page, "classify-encoding").inputValue(), "windows-1252");
  await part(page, "classify-start").and(page.locator(":enabled")).waitFor();
  await context.close();
});

test("quotes in a tab file swallow no rows", async () => {
  const { context, page } = await open(browser);
  const lines = `text\tlabel\n${rows("\t", ["fine", "dull"])}`.split("\n");
  lines[3] = `"${lines[3]}`;
  lines[8] = lines[8].replace("\t", '"\t');
  await drop(page, "rides.tsv", Buffer.from(lines.join("\n")));
  await facts(page, /24 rows/);
  await warned(page, /two ways/);
  await part(page, "quotes").selectOption('"');
  await facts(page, /19 rows/);
  await part(page, "quotes").selectOption("none");
  await facts(page, /24 rows/);
  await part(page, "header").selectOption("no");
  await facts(page, /25 rows/);
  await context.close();
});

test("labels that look alike are united and left out by buttons only", async () => {
  const { context, page } = await open(browser);
  const labels = ["fine", "dull", "Fine", "dull", "fine", "n/a"];
  await drop(page, "rides.csv", Buffer.from(`text,label\n${rows(",", labels)}`));
  const bars = part(page, "class-bars");
  const classes = (count) => bars.locator("tbody tr").nth(count - 1).waitFor();
  await part(page, "labels").filter({ hasText: "fine (8 rows)" }).waitFor();
  await classes(4);
  // the warnings stand below, and name no option of the command line
  await part(page, "to-warnings").click();
  await page.locator("#warnings-title:focus").waitFor();
  assert.match(await part(page, "warnings").textContent(), /merge them if they mean the same\./);
  assert.doesNotMatch(await page.locator("main").textContent(), /--[a-z]/);
  await part(page, "leave-out-labels").click();
  await part(page, "class-n/a").waitFor({ state: "detached" });
  await part(page, "merge-labels").click();
  await part(page, "class-Fine").waitFor({ state: "detached" });
  assert.equal(await bars.locator("tbody tr").count(), 2);
  await context.close();
});

test("a class is left out and taken again", async () => {
  const { context, page } = await open(browser);
  const table = `text,label\n${rows(",", ["fine", "dull", '"so, so"'])}once more,rare\n`;
  await drop(page, "rides.csv", Buffer.from(table));
  await part(page, "class-rare").waitFor();
  await part(page, "drop-class").selectOption("rare");
  await part(page, "class-rare").waitFor({ state: "detached" });
  await part(page, "drop-class").selectOption("so, so");
  await part(page, "class-so, so").waitFor({ state: "detached" });
  await part(page, "positive").selectOption("dull");
  await part(page, "warnings").filter({ hasText: "the class \"so, so\" are left out" }).waitFor();
  await part(page, "take-so, so").click();
  await part(page, "class-so, so").waitFor();
  assert.equal(await part(page, "class-bars").locator("tbody tr").count(), 3);
  await context.close();
});
