"use strict";
// Tables are sorted by their headings. What was chosen is kept by caption, for tables that are drawn again.
const sorted = new Map();
const number = (text) => {
  const found = text.replace(/,/g, "").match(/^[<+\s]*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
  return found ? Number(found[1]) : null;
};
const sortTable = (table, at, down) => {
  const heads = [...table.tHead.rows[0].cells];
  const head = heads[at];
  if (!head) return;
  const numeric = head.classList.contains("n");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => {
    const text = row.cells[at].textContent;
    return { row, text, value: number(text) };
  });
  rows.sort((a, b) => {
    if (a.value !== null && b.value !== null && a.value !== b.value) return down ? b.value - a.value : a.value - b.value;
    // What has no number stays last.
    if ((a.value === null) !== (b.value === null) && numeric) return a.value === null ? 1 : -1;
    const order = a.text.localeCompare(b.text, "en", { numeric: true });
    return down ? -order : order;
  });
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows.map((entry) => entry.row));
};
addEventListener("click", (event) => {
  const head = event.target.closest("table.sorts thead button")?.closest("th");
  if (!head) return;
  const table = head.closest("table");
  const now = head.getAttribute("aria-sort");
  // Numbers: the largest first, for scores; texts: from A.
  const down = now ? now === "ascending" : head.classList.contains("n");
  sorted.set(table.caption?.textContent, { at: head.cellIndex, down });
  sortTable(table, head.cellIndex, down);
});
// What is folded on the screen is printed.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((entry) => { entry.open = true; }));
