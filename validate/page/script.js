// What a report does when one asks: another theme, pictures searched, sorted and viewed large, a layer named under the pointer.
// Without it the page is whole; it reads nothing but the page.
"use strict";

const find = (id) => document.getElementById(id);

function setUpTheme() {
  const button = find("theme");
  const names = ["Auto", "Light", "Dark"];
  button.hidden = false;
  const show = (name) => {
    button.textContent = name;
    button.setAttribute("aria-label", `Colours: ${name}`);
    if (name === "Auto") {
      delete document.documentElement.dataset.theme;
    } else {
      document.documentElement.dataset.theme = name.toLowerCase();
    }
  };
  show(names[0]);
  button.addEventListener("click", () => show(names[(names.indexOf(button.textContent) + 1) % names.length]));
}

function setUpTiles() {
  const list = find("tiles");
  if (list === null) {
    return;
  }
  const tiles = Array.from(list.children, (element, rank) => ({
    element,
    rank,
    place: Number(element.dataset.place),
    figures: JSON.parse(element.dataset.figures),
    text: element.querySelector(".prompt").textContent.toLowerCase(),
  }));
  const [search, order, more] = [find("search"), find("order"), find("more")];
  let isWhole = false;
  const keys = { worst: (tile) => tile.rank, place: (tile) => tile.place };
  const compare = (one, other) => {
    const name = order.value;
    if (name in keys) {
      return keys[name](one) - keys[name](other);
    }
    const [a, b] = [one, other].map((tile) => tile.figures[name.slice(1)] ?? null);
    if (a === null || b === null) { // what is no number comes first: it is what one looks for
      return (a !== null) - (b !== null) || one.rank - other.rank;
    }
    return (name[0] === "+" ? a - b : b - a) || one.rank - other.rank;
  };
  const arrange = () => {
    const wanted = search.value.trim().toLowerCase();
    const sorted = tiles.toSorted(compare);
    const fitting = sorted.filter((tile) => tile.text.includes(wanted));
    const shown = new Set(isWhole ? fitting : fitting.slice(0, Number(list.dataset.few)));
    list.append(...sorted.map((tile) => tile.element));
    for (const tile of tiles) {
      tile.element.hidden = !shown.has(tile);
    }
    find("found").textContent = `${shown.size} of ${tiles.length}`;
    find("nothing").hidden = fitting.length > 0;
    more.hidden = shown.size === fitting.length;
    more.textContent = `Show all ${fitting.length}`;
  };
  const showAll = () => {
    isWhole = true;
    arrange();
  };
  more.addEventListener("click", () => {
    const before = list.querySelectorAll(".tile:not([hidden])").length;
    showAll();
    list.querySelectorAll(".tile:not([hidden]) .shots")[before].focus();
  });
  addEventListener("beforeprint", showAll);
  search.addEventListener("input", arrange);
  order.addEventListener("change", arrange);
  document.querySelector("[data-tools=tiles]").hidden = false;
  arrange();
  setUpViewer(list);
}

function setUpViewer(list) {
  const viewer = find("viewer");
  const [large, choices] = [find("large"), find("choices")];
  let tile = null;
  let chosen = 0;

  const images = () => Array.from(tile.querySelectorAll("img"));
  const choose = (index) => {
    chosen = Math.min(index, images().length - 1);
    const image = images()[chosen];
    large.src = image.src;
    large.alt = image.alt;
    Array.from(choices.children, (button, i) => button.setAttribute("aria-pressed", String(i === chosen)));
  };
  const show = (element) => {
    tile = element;
    const isFocused = choices.contains(document.activeElement); // on a button that goes: the keys must still reach the viewer
    choices.replaceChildren(...Array.from(tile.querySelectorAll(".label"), (label, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label.textContent;
      button.addEventListener("click", () => choose(index));
      return button;
    }));
    find("viewer-prompt").textContent = tile.querySelector(".prompt").textContent;
    find("viewer-facts").textContent = Array.from(tile.querySelectorAll(".facts div"), (fact) => Array.from(fact.children, (part) => part.textContent).join(" ")).join(", ");
    choose(chosen);
    if (isFocused) {
      choices.children[chosen].focus();
    }
  };
  const turn = (step) => {
    const shown = Array.from(list.children).filter((element) => !element.hidden);
    show(shown[(shown.indexOf(tile) + step + shown.length) % shown.length]);
  };

  list.addEventListener("click", (event) => {
    const button = event.target.closest(".shots");
    if (button !== null) {
      const image = event.target.closest(".shot");
      chosen = image === null ? 0 : Array.from(button.children).indexOf(image);
      show(button.closest(".tile"));
      viewer.showModal();
    }
  });
  viewer.addEventListener("close", () => tile?.querySelector(".shots").focus());
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => turn(-1),
      ArrowRight: () => turn(1),
      b: () => choose(chosen === 0 ? 1 : 0),
    }[event.key] ?? (/^[1-9]$/.test(event.key) ? () => choose(Number(event.key) - 1) : null);
    if (act !== null) {
      event.preventDefault();
      act();
    }
  });
}

/** A map whose cells say what they are under the pointer, and by the arrow keys. */
function setUpMap(map) {
  const cells = Array.from(map.querySelectorAll("[data-says]"));
  const said = find(map.dataset.reader);
  let at = -1;
  let isPointed = false; // and not chosen by a key: a pointer that rests while the page scrolls under it changes nothing
  const point = (index, byPointer = false) => {
    isPointed = byPointer;
    cells[at]?.classList.remove("at");
    at = index;
    cells[at]?.classList.add("at");
    said.textContent = cells[at]?.dataset.says ?? said.dataset.rest;
  };
  const follow = (event) => {
    const cell = event.target.closest("[data-says]");
    if (cell !== null) {
      point(cells.indexOf(cell), true);
    }
  };
  map.addEventListener("pointermove", follow);
  map.addEventListener("pointerdown", follow); // of a finger
  map.addEventListener("pointerleave", (event) => {
    if (isPointed && event.pointerType === "mouse") { // a finger leaves as soon as it is lifted
      point(-1);
    }
  });
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const goal = event.key in steps ? at + steps[event.key] : { Home: 0, End: cells.length - 1 }[event.key];
    if (goal !== undefined) {
      event.preventDefault();
      point(Math.min(cells.length - 1, Math.max(0, goal)));
    }
  });
  map.addEventListener("blur", () => point(-1));
}

setUpTheme();
setUpTiles();
document.querySelectorAll(".map").forEach(setUpMap);
const folds = [];
addEventListener("beforeprint", () => {
  folds.push(...document.querySelectorAll("details:not([open])"));
  folds.forEach((fold) => { fold.open = true; });
});
addEventListener("afterprint", () => folds.splice(0).forEach((fold) => { fold.open = false; }));
