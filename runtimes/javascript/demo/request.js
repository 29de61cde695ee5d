// What is asked for: prompt, seed and steps in the form, and in the page's address, so that a link says it too. The address also has the
// size, where it is not the bundle's own; given pictures it has not.

const prompt = document.getElementById("prompt");
const seed = document.getElementById("seed");
const steps = document.getElementById("steps");
const suggestions = document.getElementById("suggestions");

/** What the form says; null where the seed is no seed.
 * @returns {{prompt: string, seed: number, steps: number} | null}
 */
export function readRequest() {
  const number = Number(seed.value);
  const isSeed = seed.value.trim() !== "" && Number.isSafeInteger(number) && number >= 0;
  return isSeed ? { prompt: prompt.value.trim(), seed: number, steps: Number(steps.querySelector(":checked")?.value) } : null;
}

/** Fill the form. */
export function writeRequest(request) {
  prompt.value = request.prompt;
  seed.value = String(request.seed);
  const choice = [...steps.querySelectorAll("input")].find((input) => input.value === String(request.steps));
  if (choice) {
    choice.checked = true;
  }
  markSuggestion();
}

/** A radio button for each step count; fewest first. */
export function offerSteps({ schedules, default_steps: usual }) {
  const counts = Object.keys(schedules).map(Number).sort((one, other) => one - other);
  steps.replaceChildren(...counts.map((n) => makeStep(n, n === usual)));
}

/** Take the largest number of steps, where it is at least so many. */
export function takeMostSteps(least) {
  const most = [...steps.querySelectorAll("input")].at(-1);
  if (Number(most?.value) >= least) {
    most.checked = true;
  }
}

function makeStep(n, isChecked) {
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "steps", value: String(n) });
  input.defaultChecked = isChecked;
  const text = document.createElement("span");
  text.textContent = String(n);
  const label = document.createElement("label");
  label.append(input, text);
  return label;
}

/** A button for each suggested prompt. */
export function offerSuggestions(prompts, onChoose) {
  suggestions.replaceChildren(
    ...prompts.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => {
        prompt.value = text;
        onChoose();
      });
      return button;
    }),
  );
  markSuggestion();
}

/** Show which suggestion stands in the prompt. */
export function markSuggestion() {
  for (const button of suggestions.children) {
    button.setAttribute("aria-pressed", String(button.textContent === prompt.value));
  }
}

/** Another seed. */
export function rollSeed() {
  seed.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** What the address asks for, or null. */
export function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const number = Number(asked.get("seed") ?? "0");
  if (!asked.has("prompt") || !Number.isSafeInteger(number) || number < 0) {
    return null;
  }
  const size = Object.fromEntries(["height", "width"].filter((side) => asked.has(side)).map((side) => [side, Number(asked.get(side))]));
  return { prompt: asked.get("prompt").slice(0, prompt.maxLength), seed: number, steps: Number(asked.get("steps")), ...size };
}

/** Put the request into the address. */
export function writeAddress(request) {
  history.replaceState(null, "", `#${new URLSearchParams(Object.entries(request))}`);
}
