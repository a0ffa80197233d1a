"use strict";
(() => {
  const table = document.querySelector("table");
  const heads = [...table.querySelectorAll("th")];
  const rows = [...table.querySelectorAll("tbody")];
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");

  // The row of cells; below it, in the same tbody, is what it opens to.
  const cellsOf = (body) => body.rows[0].cells;

  // What a row lacks comes last, whichever way it is sorted.
  const compare = (one, other, way, isNumber) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    return way * (isNumber ? Number(one) - Number(other) : one.localeCompare(other));
  };

  const sort = (head) => {
    const column = heads.indexOf(head);
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[head.getAttribute("aria-sort")];
    for (const other of heads) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", order);
    let sorted = rows;
    if (order !== "none") {
      const way = order === "ascending" ? 1 : -1;
      const isNumber = head.dataset.kind === "number";
      const valueOf = (body) => cellsOf(body)[column].dataset.value;
      sorted = [...rows].sort((one, other) => compare(valueOf(one), valueOf(other), way, isNumber));
    }
    table.append(...sorted);
  };

  const open = (body) => {
    const button = body.querySelector(".opener");
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    body.rows[1].hidden = isOpen;
  };

  const texts = rows.map((body) => body.rows[0].textContent.toLowerCase());
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((body, number) => {
      body.hidden = !texts[number].includes(wanted);
      shown += body.hidden ? 0 : 1;
    });
    count.textContent = wanted ? `${shown} of ${rows.length} shown` : "";
  };

  table.addEventListener("click", (event) => {
    const sorter = event.target.closest(".sorter");
    if (sorter) return sort(sorter.closest("th"));
    const row = event.target.closest("tbody > tr:first-child");
    // Whoever marks a part of the text wants to copy it.
    if (row && (event.target.closest(".opener") || getSelection().isCollapsed)) open(row.parentNode);
  });
  filter.addEventListener("input", show);
  show(); // a browser that comes back to the page has kept what was typed
})();
