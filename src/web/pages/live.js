// Parts of the page that changed are pushed and replaced; nothing else is loaded.
const source = document.body.dataset.events;
const connection = document.getElementById("connection");
const stops = (part) => [...part.querySelectorAll("a, button, summary, [tabindex]")];
// The same link or button has the keyboard's focus after its part was replaced; no other one, which Enter would press.
const focusAgain = (found, before, at) => {
  const isSame = (stop) => stop.tagName === before.tagName && stop.getAttribute("href") === before.getAttribute("href") && stop.textContent === before.textContent;
  const presses = before.matches("a, button");
  (found.find(isSame) ?? (presses ? null : found[at]))?.focus({ preventScroll: true });
};
const replace = (id, html) => {
  const part = document.getElementById(id);
  // What somebody is typing or choosing in stays.
  if (!part || (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"))) return;
  const at = stops(part).indexOf(document.activeElement);
  const focused = at < 0 ? null : document.activeElement;
  const scrolls = [...part.querySelectorAll(".wide, .plot, pre")].map((box) => [box.scrollLeft, box.scrollTop]);
  part.innerHTML = html;
  [...part.querySelectorAll(".wide, .plot, pre")].forEach((box, at) => { if (scrolls[at]) [box.scrollLeft, box.scrollTop] = scrolls[at]; });
  for (const table of part.querySelectorAll("table.sorts")) {
    const chosen = sorted.get(table.caption?.textContent);
    if (chosen) sortTable(table, chosen.at, chosen.down);
  }
  if (focused) focusAgain(stops(part), focused, at);
};
if (source) {
  const stream = new EventSource(source);
  stream.addEventListener("open", () => { connection.textContent = "live"; connection.classList.remove("lost"); });
  stream.addEventListener("error", () => { connection.textContent = "connection lost, trying again"; connection.classList.add("lost"); });
  stream.addEventListener("parts", (event) => { for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html); });
  // The server was started again: forms of this page need its new token.
  stream.addEventListener("token", (event) => document.querySelectorAll("input[name=form_token]").forEach((input) => { input.value = event.data; }));
}
addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});
const drop = document.getElementById("sweep-file");
if (drop) {
  for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); });
  drop.addEventListener("drop", async (event) => {
    const file = event.dataTransfer.files[0];
    if (!file) return;
    drop.value = await file.text();
    drop.form.requestSubmit();
  });
}
