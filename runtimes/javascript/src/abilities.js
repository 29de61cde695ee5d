// What a bundle can be asked for beside a prompt and a seed, so that an app offers that and nothing else.

import { findEncoder, listGiven } from "./request.js";
import { findMultiples } from "./sizes.js";

/** The abilities that app.json describes; see index.d.ts.
 * @param {any} app
 * @returns {import("../index.d.ts").Abilities}
 */
export function listAbilities(app) {
  const { schedules } = app.sampler;
  const counts = Object.keys(schedules).map(Number).sort((one, other) => one - other);
  const hasLaterStart = Object.values(schedules).some(({ times }) => times.some((time) => time < 1)); // than noise alone
  return {
    steps: counts,
    image: hasLaterStart && findEncoder(app) !== undefined,
    control: listGiven(app).some(({ name }) => name === app.values.scale),
    size: [app.size[0], app.size[1]],
    multiples: findMultiples(app),
  };
}
