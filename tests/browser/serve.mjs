// `loragrid serve` in headless Chromium: a sweep of the fake engine while it runs, clicks, two browsers at once, a server that is
// started again under an open page, names that are hostile, posts from elsewhere. Screenshots are left in the folder.
//
// usage: node serve.mjs CHROMIUM FOLDER LORAGRID FAKE_ENGINE MODEL
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, shots, loragrid, fake, model] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const work = mkdtempSync(join(tmpdir(), "loragrid-serve-"));
const failures = [];
const check = (holds, what) => { if (!holds) failures.push(what); };
const run = (...words) => spawnSync(loragrid, words, { cwd: work, encoding: "utf8" });

const statusOf = (name) => JSON.parse(run("status", "--json").stdout).sweeps.find((one) => one.sweep === name);

const sweep = (name, axes, more = "") => `name = "${name}"\nmodel = "${model}"\ndata = "two_digit_subtraction"\neval = ["two_digit_subtraction", "two_digit_addition"]\nlimit = 20\n${more}[axes]\n${axes}\n`;
writeFileSync(join(work, "night.toml"), sweep("night", '"lora.rank" = [4, 8, 16]\n"train.learning_rate" = [1e-3, 2e-3]\nseed = [1, 2]'));
writeFileSync(join(work, "waits.toml"), sweep("waits", '"lora.rank" = [2, 32]'));
// A name that is markup reaches the pages as the label of imported results and as a reason.
const hostile = `<img src=x onerror=alert(1)>"'`;

const start = async (port = 0, env = {}) => {
  const server = spawn(loragrid, ["serve", "--port", String(port), "--json"], { cwd: work, env: { ...process.env, ...env } });
  const url = await new Promise((resolve, reject) => {
    let text = "";
    server.stdout.on("data", (part) => { text += part; if (text.trimEnd().endsWith("}")) resolve(JSON.parse(text).url); });
    server.on("exit", (code) => reject(new Error(`serve ended with ${code}`)));
  });
  return { server, url: url.replace(/\/$/, "") };
};
const end = (server) => new Promise((resolve) => { server.on("exit", (code) => resolve(code)); server.kill("SIGTERM"); });

// Half of the jobs, then one that hangs: the sweep is running as long as the worker lives.
run("submit", "waits.toml");
run("submit", "night.toml", "--priority", "5");
const worker = spawn(loragrid, ["work", "--engine", fake, "--devices", "cpu:2", "--pack", "1"], { cwd: work, env: { ...process.env, LORAGRID_FAKE: `hang@train=${join(work, "hung")}` } });
run("cancel", "waits", "--reason", hostile);
await until("a job runs", () => JSON.parse(run("workers", "--json").stdout).workers.length > 0);

let { server, url } = await start();
const port = Number(new URL(url).port);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });

// Every page at three widths, light and dark: nothing wider than the window, no error, no request elsewhere, readable.
const jobs = JSON.parse(run("query", "--json", "SELECT job_id FROM runs WHERE sweep = 'night' AND kind = 'train' ORDER BY position").stdout).rows.map((row) => row.job_id);
const pages = ["/", "/sweeps/night", "/sweeps/night?view=leaderboard", "/sweeps/night?view=curves", "/sweeps/night?view=parallel", "/sweeps/night?view=pivot", "/sweeps/night?view=effects", "/sweeps/waits", `/jobs/${jobs[0]}`, "/plan"];
await until("the others are done", () => statusOf("night").done >= 6);
for (const path of pages) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 768, 1280]) await look(path, { colorScheme, viewport: { width, height: 900 } });
  }
}
await keyboard();
await liveChanges();
await plan();
await otherSites();
await hostileNames();
await restarted();
await thousandStreams();
await token();
await browser.close();
check(await end(server) === 0, "SIGTERM ends the server well");
worker.kill("SIGKILL");
spawnSync("pkill", ["-KILL", "-f", join(work, "hung")]);
rmSync(work, { recursive: true, force: true });
failures.forEach((failure) => console.error(`failed: ${failure}`));
console.log(failures.length === 0 ? `serve: ${pages.length} pages are well` : `serve: ${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);

async function until(what, holds) {
  const deadline = Date.now() + 60_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function open(path, options = {}, name = path) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type()) && !/ERR_CONNECTION|ERR_INCOMPLETE|status of 40/.test(message.text())) failures.push(`${name}: console: ${message.text()}`); });
  page.on("pageerror", (error) => failures.push(`${name}: ${error}`));
  page.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("data:")) failures.push(`${name}: asks for ${request.url()}`); });
  const response = await page.goto(url + path, { waitUntil: "domcontentloaded" });
  return { context, page, response };
}

async function look(path, options) {
  const name = `serve${path.replace(/[?=/]+/g, "-").replace(jobs[0], "job")}-${options.viewport.width}-${options.colorScheme}`;
  const { context, page, response } = await open(path, options, name);
  const policy = response.headers()["content-security-policy"] ?? "";
  check(response.status() === 200 && policy.includes("default-src 'none'") && !policy.includes("unsafe"), `${name}: ${response.status()} ${policy}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(wide <= 0, `${name}: ${wide} pixels wider than the window`);
  const low = await page.evaluate(contrasts);
  for (const [what, ratio] of low) check(ratio >= 4.5, `${name}: ${what} has a contrast of ${ratio.toFixed(2)}`);
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
  await context.close();
}

// Contrast of texts against the page's paper or band.
function contrasts() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => { const x = part / 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "white";
  };
  return [...document.querySelectorAll("h1, h2, p, a, td, th, dt, dd, label, button, summary")].filter((element) => element.textContent.trim()).map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(paper(element))].sort((x, y) => y - x);
    return [`${element.tagName} "${element.textContent.trim().slice(0, 20)}"`, (a + 0.05) / (b + 0.05)];
  });
}

// From the first page to a job, and a table sorted, with keys only.
async function keyboard() {
  const { context, page } = await open("/");
  await page.getByRole("link", { name: "night", exact: true }).focus();
  const kept = await page.evaluate(() => { const part = document.activeElement.closest("[id]"); replace(part.id, part.innerHTML); return document.activeElement.textContent; });
  check(kept === "night", "a link keeps the focus when its part is replaced");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/sweeps/night");
  await page.getByRole("link", { name: "leaderboard" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForURL("**view=leaderboard");
  await page.getByLabel("only runs with").fill("lora.rank >= 8");
  await page.keyboard.press("Enter");
  await page.waitForURL(/where=/);
  const runs = await page.locator("#board tbody th").allTextContents();
  check(runs.length > 1 && !runs.some((run) => run.includes("r=4 ")), `filtered: ${runs}`);
  const head = page.locator("#board thead button").nth(1);
  await head.focus();
  await page.keyboard.press("Enter");
  check(await page.locator("#board thead th").nth(1).getAttribute("aria-sort") === "descending", "a heading sorts by key");
  await page.goto(`${url}/sweeps/night?view=leaderboard&where=lora.rnk`);
  check((await page.locator("#trouble").textContent()).includes("lora.rnk") && await page.getByLabel("only runs with").inputValue() === "lora.rnk", "a wrong condition is corrected in its form");
  await page.goto(`${url}/sweeps/night?view=curves`);
  const boxes = page.locator("input[name=runs]");
  for (const box of await boxes.all()) await box.uncheck();
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByRole("button", { name: "show" }).click();
  await page.waitForURL(/runs=.*runs=/);
  await context.close();
}

// Two browsers: a click in one is seen in the other, and a table that is sorted stays so.
async function liveChanges() {
  const first = await open("/sweeps/night");
  const second = await open("/sweeps/night", { viewport: { width: 390, height: 800 } });
  await second.page.getByText("live", { exact: true }).first().waitFor();
  const queued = /(\d+) paused/;
  first.page.on("dialog", (dialog) => dialog.accept());
  await first.page.getByRole("button", { name: "pause" }).click();
  await first.page.getByText(/jobs? paused/).first().waitFor();
  await second.page.locator("#head").getByText(queued).waitFor({ timeout: 10_000 });
  await second.page.getByRole("button", { name: "resume" }).click();
  await second.page.locator("#message").getByText(/jobs? queued/).waitFor();
  await first.page.locator("#head").getByText(/^(?!.*paused).*queued/).first().waitFor({ timeout: 10_000 });
  // A dialog that is dismissed changes nothing.
  const before = statusOf("night").cancelled;
  const third = await open("/sweeps/night");
  third.page.on("dialog", (dialog) => dialog.dismiss());
  await third.page.getByRole("button", { name: "cancel" }).click();
  check(!third.page.url().includes("message="), "a dismissed question changes nothing");
  check(statusOf("night").cancelled === before, "nothing is cancelled");
  for (const { context } of [first, second, third]) await context.close();
}

async function plan() {
  const { context, page } = await open("/plan");
  const text = sweep("dropped", '"lora.rank" = [2, 4]');
  await page.evaluate((text) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "sweep.toml"));
    document.getElementById("sweep-file").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }, text);
  await page.locator("#plan").getByText("dropped: 3 jobs").waitFor({ timeout: 60_000 });
  await page.getByLabel("sweep file").fill('name = "x"\nmodell = "y"\n');
  await page.getByRole("button", { name: "plan" }).click();
  await page.locator("#plan").getByText(/line 2.*modell/).waitFor();
  check(!run("status", "--json").stdout.includes("dropped"), "a plan queues nothing");
  await context.close();
}

// Requests that a page of another site could make.
async function otherSites() {
  const { context, page } = await open("/sweeps/night");
  const form = await page.locator("input[name=form_token]").first().inputValue();
  await context.close();
  const post = (headers, body) => new Promise((resolve) => {
    const request = http.request({ host: "127.0.0.1", port, path: "/control", method: "POST", headers: { "content-type": "application/x-www-form-urlencoded", ...headers } }, (response) => { response.resume(); resolve(response.statusCode); });
    request.end(body);
  });
  const body = `name=night&verb=cancel&back=/&form_token=${form}`;
  check(await post({ origin: "http://evil.example" }, body) === 403, "a post from another site is denied");
  check(await post({ origin: `http://127.0.0.1:${port + 1}` }, body) === 403, "a post from another port is denied");
  check(await post({ host: "evil.example" }, body) === 421, "another name is denied");
  check(await post({}, "name=night&verb=cancel&back=/&form_token=guessed") === 403, "a post without the page's token is denied");
  check(await post({}, "x".repeat(3 << 20)) === 413, "a long form is refused");
}

async function hostileNames() {
  const { context, page } = await open("/sweeps/waits");
  await page.locator("#waiting").getByText(hostile).first().waitFor();
  check(await page.locator("img").count() === 0, "a reason is text");
  for (const path of ["/sweeps/%3Cscript%3E", "/jobs/..%2f..%2fetc", "/sweeps/night?view=pivot&metric=%3Cb%3E", "/compare?runs=a"]) {
    const response = await page.goto(url + path);
    check([200, 400, 404, 422].includes(response.status()) && await page.locator("main b, main script").count() === 0, `${path}: ${response.status()}`);
  }
  await context.close();
}

// The page notices, goes on by itself, and its forms work.
async function restarted() {
  const { context, page } = await open("/sweeps/night");
  await page.locator("#connection").getByText("live").waitFor();
  check(await end(server) === 0, "SIGTERM ends the server well although a page is open");
  await page.locator("#connection.lost").waitFor({ timeout: 10_000 });
  ({ server, url } = await start(port));
  await page.locator("#connection:not(.lost)").getByText("live").waitFor({ timeout: 20_000 });
  page.on("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "raise priority" }).click();
  await page.locator("#message").waitFor();
  await context.close();
}

// A thousand readers, of whom most never read, and pages are as fast as before.
async function thousandStreams() {
  const sockets = [];
  const agent = new http.Agent({ keepAlive: true, maxSockets: 2000 });
  for (let at = 0; at < 1000; at += 1) {
    const request = http.get({ agent, host: "127.0.0.1", port, path: "/events?page=%2Fsweeps%2Fnight" }, (response) => { if (at < 20) response.resume(); });
    request.on("error", () => {});
    sockets.push(request);
  }
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const began = performance.now();
  const response = await fetch(`${url}/sweeps/night`);
  const text = await response.text();
  check(response.status === 200 && text.includes("</html>"), "a page beside a thousand streams");
  check(performance.now() - began < 2000, `a page beside a thousand streams takes ${performance.now() - began} ms`);
  sockets.forEach((request) => request.destroy());
}

async function token() {
  const guarded = await start(0, { LORAGRID_TOKEN: "a-token-of-a-test" });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${guarded.url}/sweeps/night?view=curves`);
  check(page.url().includes("/login"), "without the token there is only the form");
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByText("This is not the token.").waitFor();
  await page.getByLabel("Token").fill("a-token-of-a-test");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.waitForURL("**/sweeps/night?view=curves");
  const cookies = await context.cookies();
  check(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict" && !cookies[0].value.includes("a-token"), `cookies: ${JSON.stringify(cookies)}`);
  const bare = await fetch(`${guarded.url}/`, { redirect: "manual", headers: { authorization: "Bearer wrong" } });
  const known = await fetch(`${guarded.url}/`, { headers: { authorization: "Bearer a-token-of-a-test" } });
  check(bare.status === 401 && known.status === 200, `by header: ${bare.status} ${known.status}`);
  await context.close();
  await end(guarded.server);
}
