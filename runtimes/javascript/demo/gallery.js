// The list of kept pictures. A press shows a picture with its prompt and seed again; the arrow keys go from one to the next.

import { describeGuide } from "./guides.js";
import { count } from "./text.js";

export class Gallery {
  #store;
  #list = document.getElementById("gallery");
  #empty = document.getElementById("gallery-empty");
  #clear = document.getElementById("clear");
  #urls = []; // of the pictures shown

  /**
   * @param {PictureStore} store
   * @param {(picture: object) => void} onChoose a picture was pressed
   * @param {() => void} onCleared all were removed
   */
  constructor(store, onChoose, onCleared) {
    this.#store = store;
    this.onChoose = onChoose;
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    this.#clear.addEventListener("click", () => this.#clearAll(onCleared));
    this.#clear.addEventListener("blur", () => this.#askNoMore());
  }

  /** Show what the store has; `current` is the key of the picture that is on the page. */
  show(current) {
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    this.#urls = [];
    this.#list.replaceChildren(...this.#store.list().map((picture) => this.#makeEntry(picture)));
    this.mark(current);
    const isEmpty = this.#list.childElementCount === 0;
    this.#empty.hidden = !isEmpty;
    this.#clear.hidden = isEmpty;
    this.#askNoMore();
  }

  /** Say which entry is the picture on the page. */
  mark(current) {
    for (const button of this.#list.querySelectorAll("button")) {
      button.toggleAttribute("aria-current", button.dataset.key === current);
      if (button.dataset.key === current) {
        button.setAttribute("aria-current", "true");
      }
    }
  }

  #makeEntry(picture) {
    const url = URL.createObjectURL(picture.png);
    this.#urls.push(url);
    const image = new Image(picture.width, picture.height);
    image.src = url;
    image.alt = "";
    const text = document.createElement("span");
    text.textContent = picture.prompt;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumb";
    button.dataset.key = picture.key;
    const how = `seed ${picture.seed}, ${count(picture.steps, "step")}${describeGuide(picture)}`;
    button.title = `${picture.prompt}\n${how}, ${picture.bundle}`;
    button.setAttribute("aria-label", `${picture.prompt}, ${how}`);
    button.append(image, text);
    button.addEventListener("click", () => this.onChoose(picture));
    const entry = document.createElement("li");
    entry.append(button);
    return entry;
  }

  #move(event) {
    const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const buttons = [...this.#list.querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    if (way && place >= 0) {
      event.preventDefault();
      buttons[Math.min(Math.max(place + way, 0), buttons.length - 1)].focus();
    }
  }

  async #clearAll(onCleared) {
    if (!this.#clear.dataset.asked) {
      this.#clear.dataset.asked = "yes";
      this.#clear.textContent = `Remove ${count(this.#store.list().length, "picture")}?`;
      return;
    }
    await this.#store.clear();
    onCleared();
  }

  #askNoMore() {
    delete this.#clear.dataset.asked;
    this.#clear.textContent = "Clear";
  }
}
