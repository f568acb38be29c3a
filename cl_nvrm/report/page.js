"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
    const up = heading.getAttribute("aria-sort") !== "ascending";
    headings.forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column], value = Number.parseFloat(cell.dataset.sort);
      return Number.isNaN(value) ? cell.textContent.trim() : value;
    };
    const compare = (a, b) => {
      if (typeof a === "number" && typeof b === "number") return up ? a - b : b - a;
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what has no value comes last, either way
      return up ? a.localeCompare(b) : b.localeCompare(a);
    };
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort((a, b) => compare(a[0], b[0]));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
