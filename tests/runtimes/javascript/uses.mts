import { openBundle, makeNoise, SprintExportError, type Picture } from "sprint-export";
const p = await openBundle("x", { provider: "cpu", onProgress: ({ done, total }) => console.log(done / total) });
const picture: Picture = await p.draw("a", { seed: 3n, steps: 1 });
const noise: Float32Array = makeNoise(1, 4);
// @ts-expect-error a seed is a number
await p.draw("a", { seed: "3" });
export { picture, noise, SprintExportError };
