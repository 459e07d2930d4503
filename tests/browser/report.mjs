// A report in headless Chromium: no error, no request, nothing wider than the window at three widths, light and dark, readable
// colours, and headings that sort. Screenshots are left in the folder.
//
// usage: node report.mjs CHROMIUM FOLDER PAGE.html ...
import { mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, folder, ...pages] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const failures = [];
const check = (holds, what) => { if (!holds) failures.push(what); };

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"] });
for (const file of pages) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 768, 1280]) {
      await look(file, { colorScheme, viewport: { width, height: 900 } });
    }
  }
  await sort(file);
}
await browser.close();
failures.forEach((failure) => console.error(`failed: ${failure}`));
console.log(failures.length === 0 ? `browser: ${pages.length} pages are well` : `browser: ${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);

// A page that tells whatever goes wrong in it.
async function open(file, options, name) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const url = pathToFileURL(resolve(file)).href;
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) failures.push(`${name}: console: ${message.text()}`); });
  page.on("pageerror", (error) => failures.push(`${name}: ${error}`));
  page.on("dialog", (dialog) => { failures.push(`${name}: a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (request.url() !== url && !request.url().startsWith("data:")) failures.push(`${name}: asks for ${request.url()}`); });
  await page.goto(url);
  return { context, page };
}

async function look(file, options) {
  const name = `${basename(file, ".html")}-${options.viewport.width}-${options.colorScheme}`;
  const { context, page } = await open(file, options, name);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(wide <= 0, `${name}: ${wide} pixels wider than the window`);
  for (const [what, ratio] of await page.evaluate(contrasts)) {
    check(ratio >= 4.5, `${name}: ${what} has a contrast of ${ratio.toFixed(2)}`);
  }
  const charts = await page.evaluate(() => [...document.querySelectorAll("svg")].map((svg) => svg.querySelector("desc")?.textContent ?? ""));
  check(charts.length > 0 && charts.every((words) => words.length > 20), `${name}: a chart without words`);
  for (const told of await page.evaluate(drawn)) failures.push(`${name}: ${told}`);
  for (const told of await page.evaluate(cut)) failures.push(`${name}: ${told}`);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  await context.close();
}

// Texts of charts that leave their chart, or are too small to read.
function drawn() {
  const told = [];
  for (const svg of document.querySelectorAll("svg")) {
    const box = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const own = text.getBoundingClientRect();
      if (own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1) told.push(`'${text.textContent}' leaves its chart`);
      const size = Number.parseFloat(getComputedStyle(text).fontSize) * box.width / svg.viewBox.baseVal.width;
      if (size < 7.5) told.push(`'${text.textContent}' is ${size.toFixed(1)} pixels high`);
    }
  }
  return told.slice(0, 5);
}

// Headings of rows whose end nobody can see.
function cut() {
  const hidden = [...document.querySelectorAll("th[scope=row]")].filter((own) => getComputedStyle(own).overflowX === "hidden" && own.scrollWidth > own.clientWidth + 1);
  return hidden.slice(0, 3).map((own) => `'${own.textContent.slice(0, 40)}' is cut`);
}

// Contrast (WCAG 2) of each kind of text with the paper.
function contrasts() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((own) => own / 255).map((own) => (own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const against = (own) => (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
  const texts = ["p", "td", "caption", "nav a", "summary", "pre", "figcaption", "th button"];
  const found = texts.map((what) => [what, document.querySelector(what)]).filter(([, element]) => element);
  const drawn = [...document.querySelectorAll("svg text")].slice(0, 20).map((text) => ["a chart's text", text]);
  return [
    ...found.map(([what, element]) => [what, against(luminance(getComputedStyle(element).color))]),
    ...drawn.map(([what, element]) => [what, against(luminance(getComputedStyle(element).fill))]),
  ];
}

async function sort(file) {
  const name = `${basename(file, ".html")}-sort`;
  const { context, page } = await open(file, { viewport: { width: 1280, height: 900 } }, name);
  const table = page.locator("table.sorts").filter({ has: page.locator("th", { hasText: "loss" }) }).first();
  const column = async (heading) => {
    const at = (await table.locator("thead th").allInnerTexts()).findIndex((text) => text.replace(/[▲▼ ]/g, "").startsWith(heading));
    const texts = await table.locator(`tbody tr > :nth-child(${at + 1})`).allInnerTexts();
    return texts.map((text) => Number.parseFloat(text.replace(/,/g, "")));
  };
  const press = (heading) => table.locator("thead th button", { hasText: heading }).first().click();
  const ordered = (values, sign) => {
    const numbers = values.filter((value) => !Number.isNaN(value));
    const last = values.slice(numbers.length).every(Number.isNaN);
    return last && numbers.every((value, at) => at === 0 || sign * (numbers[at - 1] - value) <= 0);
  };
  const before = await table.locator("tbody tr").count();
  await press("trainable");
  check(ordered(await column("trainable"), -1), `${name}: not sorted from the largest: ${await column("trainable")}`);
  await press("trainable");
  check(ordered(await column("trainable"), 1), `${name}: not sorted from the smallest: ${await column("trainable")}`);
  check((await table.locator("th[aria-sort=ascending]").count()) === 1, `${name}: no heading says that it is sorted`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check((await table.locator("th[aria-sort]").count()) === 1, `${name}: two headings say that they are sorted, or the keyboard does not sort`);
  check((await table.locator("tbody tr").count()) === before, `${name}: rows were lost`);
  await page.emulateMedia({ media: "print" });
  // As the page itself wants it.
  await page.pdf({ path: join(folder, `${basename(file, ".html")}.pdf`), preferCSSPageSize: true });
  await context.close();
}
