import { openBundle, makeNoise, SprintExportError, type Picture } from "sprint-export";
const p = await openBundle("x", { provider: "cpu", onProgress: ({ done, total }) => console.log(done / total) });
const picture: Picture = await p.draw("a", { seed: 3n, steps: 1 });
const noise: Float32Array = makeNoise(1, 4);
const wide: Picture = await p.draw("a", { height: 32, width: 96, image: picture, strength: 0.5, control: new Uint8Array(8), controlScale: 0.8 });
const words: string[] = p.listUnknown("a");
const file: string = JSON.stringify(await p.validate({ runs: 3, label: "a box" }));
// @ts-expect-error an option that there is not
await p.draw("a", { sed: 3 });
// @ts-expect-error a seed is a number
await p.draw("a", { seed: "3" });
export { picture, noise, wide, words, file, SprintExportError };
