"use strict";
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/^[<+\s]*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
    return found ? Number(found[1]) : null;
  };
  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    const now = head.getAttribute("aria-sort");
    // Numbers: the largest first, for scores; texts: from A.
    const down = now ? now === "ascending" : numeric;
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
    body.append(...rows.map((own) => own.row));
  }));
}
// What is folded on the screen is printed.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((own) => { own.open = true; }));
