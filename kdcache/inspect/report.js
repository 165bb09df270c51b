"use strict";
(function () {
  const table = document.getElementById("utterances");
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  if (!table || !search || !count) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);

  function tell() {
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown + " of " + rows.length + " shown";
  }

  function compare(a, b, column, numeric, sign) {
    const [x, y] = [a, b].map((row) => row.cells[column].dataset.value);
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value comes last
    return sign * (numeric ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0);
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const order = before ? (before === "ascending" ? "descending" : "ascending")
        : numeric ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => compare(a, b, column, numeric, sign));
      body.append(...rows);
    });
  });

  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    tell();
  });
  tell();
})();
