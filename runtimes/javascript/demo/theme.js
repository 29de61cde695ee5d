// The colours that were chosen, before the page is shown: loaded as a plain script in the head, so that nothing flashes.
"use strict";

(() => {
  const CHOICES = ["auto", "light", "dark"];
  const KEY = "sprint-export-theme";

  function read() {
    try {
      const stored = localStorage.getItem(KEY);
      return CHOICES.includes(stored) ? stored : "auto";
    } catch {
      return "auto"; // storage is off
    }
  }

  function apply(choice) {
    document.documentElement.dataset.theme = choice;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = choice[0].toUpperCase() + choice.slice(1);
      button.setAttribute("aria-label", `Colours: ${choice}`);
    }
  }

  function choose(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // the choice lasts as long as the page
    }
    apply(choice);
  }

  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    apply(read());
    document.getElementById("theme").addEventListener("click", () => {
      const now = document.documentElement.dataset.theme;
      choose(CHOICES[(CHOICES.indexOf(now) + 1) % CHOICES.length]);
    });
  });
})();
