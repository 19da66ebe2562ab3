"use strict";
// Sorts the table by the column whose heading is pressed; again, the other way round.
(() => {
  const table = document.querySelector("[data-sortable]"), body = table.tBodies[0];
  const order = new Intl.Collator(document.documentElement.lang, { numeric: true }).compare;
  for (const button of table.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = head.cellIndex;
      const numbers = button.dataset.sort === "number";
      // Numbers start with the largest, words with the first.
      const start = numbers ? "descending" : "ascending";
      const other = numbers ? "ascending" : "descending";
      const sense = head.getAttribute("aria-sort") === start ? other : start;
      for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sense);
      const sign = sense === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        const left = value(a), right = value(b);
        if (left === "" || right === "") return (left === "") - (right === ""); // unknown: last
        return sign * (numbers ? Number(left) - Number(right) : order(left, right));
      };
      body.append(...[...body.rows].sort(compare));
    });
  }
})();
