"use strict";
(() => {
  const tools = document.querySelector(".tools");
  if (!tools) return;
  const chosen = (name) => tools.elements[name].value;

  class Comparison {
    constructor(section) {
      this.view = section.querySelector(".view");
      this.stage = section.querySelector(".stage");
      this.after = section.querySelector(".stage .after");
      this.line = section.querySelector(".line");
      this.divider = section.querySelector(".divider");
      this.width = Number(this.stage.dataset.width);
      this.height = Number(this.stage.dataset.height);
      this.room = section;
      this.divider.addEventListener("input", () => this.divide());
      this.view.addEventListener("scroll", () => this.divide(), { passive: true });
    }

    factor() {
      const zoom = chosen("zoom");
      if (zoom !== "fit") return Number(zoom);
      return Math.min(1, this.room.clientWidth / this.width, (0.8 * innerHeight) / this.height);
    }

    // What was in the middle of the view stays there.
    resize() {
      const view = this.view;
      const before = this.stage.clientWidth || 1;
      const middle = [view.scrollLeft + view.clientWidth / 2, view.scrollTop + view.clientHeight / 2];
      const factor = this.factor();
      this.stage.style.width = `${Math.max(1, this.width * factor)}px`;
      this.stage.style.height = `${Math.max(1, this.height * factor)}px`;
      this.stage.style.maxWidth = "none";
      const change = this.stage.clientWidth / before;
      view.scrollLeft = middle[0] * change - view.clientWidth / 2;
      view.scrollTop = middle[1] * change - view.clientHeight / 2;
      this.divide();
    }

    // The divider stands still in the view while the pictures are scrolled beneath it.
    divide() {
      const share = Number(this.divider.value) / 100;
      const place = this.view.scrollLeft + share * this.view.clientWidth;
      this.after.style.clipPath = `inset(0 0 0 ${place}px)`;
      this.line.style.left = `${share * this.view.clientWidth}px`;
      const percent = Math.round(share * 100);
      this.divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    }
  }

  const comparisons = [...document.querySelectorAll("section")].map(
    (section) => new Comparison(section),
  );
  const draw = () => {
    document.body.classList.toggle("pixels", chosen("enlarge") === "pixels");
    for (const comparison of comparisons) comparison.resize();
  };
  tools.addEventListener("change", draw);
  tools.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("resize", draw);
  draw();
})();
