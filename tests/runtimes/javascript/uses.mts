// Every public name of the package, used as an app would.
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-node";
import {
  makeNoise, makeOpener, openBundle, planMemory, SprintExportError,
  type Abilities, type Comparison, type DeviceResult, type DrawOptions, type GivenPicture, type MemoryPlan, type OpenOptions, type Picture, type Pipeline, type Progress,
} from "sprint-export";

const options: OpenOptions = {
  provider: "cpu", threads: 2, oneAtATime: true, cache: false, verify: true, compare: false, memoryLimit: 2 ** 31,
  onProgress: ({ stage, done, total }: Progress) => console.log(stage.toUpperCase(), done / total),
  signal: AbortSignal.timeout(1000),
};
const p: Pipeline = await openBundle(new URL("file:///x/"), options);
const other: typeof openBundle = makeOpener({ ort, Tokenizer, defaultProvider: "cpu" });
const plan: MemoryPlan = planMemory(p.app, { provider: "wasm", oneAtATime: true });
const enough: boolean = plan.least <= plan.limit && plan.networks.every(({ name, bytes }) => name.length < bytes);
const { image, control, multiples, size: [height, width], steps }: Abilities = p.abilities;
const most: number = Math.max(...steps) + height + width + (multiples?.[0] ?? 0) + Number(image) + Number(control);

const given: GivenPicture = { data: new Uint8Array(12), width: 2, height: 2 };
const asked: DrawOptions = { height: 32, width: 96, image: given, strength: 0.5, control: new Uint8Array(8), controlScale: 0.8, steps: 4, inputs: { scale: [1] } };
const picture: Picture = await p.draw("a", {
  seed: 3n,
  onProgress: ({ stage, step, done, total }) => console.log(stage.length, (step ?? 0) + done / total),
  onStage: ({ network, written }) => console.log(network.length, Object.keys(written)),
  signal: new AbortController().signal,
});
const wide: Picture = await p.draw("a", { ...asked, image: picture, seed: picture.seed });
const shown: ImageData = new ImageData(picture.data, picture.width, picture.height);
const milliseconds: number = picture.milliseconds["total"] ?? 0;
const words: string[] = [...p.listUnknown("a"), ...p.notKept, p.description];
const { ids, mask }: { ids: BigInt64Array; mask: BigInt64Array } = p.encodePrompt("a");
const noise: Float32Array = makeNoise(2n ** 64n - 1n, 4);
const { drawings }: { drawings: Comparison[] } = await p.check({ signal: AbortSignal.timeout(1000) });
const result: DeviceResult = await p.validate({ runs: 3, label: "a box", onProgress: ({ what, done }) => console.log(what, done) });
const file: string = JSON.stringify(result);
await p.close();
try {
  await other("x");
} catch (error) {
  const code: string = error instanceof SprintExportError ? error.code : "";
  console.log(code);
}
// @ts-expect-error an option that there is not
await p.draw("a", { sed: 3 });
// @ts-expect-error a seed is a number
await p.draw("a", { seed: "3" });
// @ts-expect-error an option of opening that there is not
await openBundle("x", { theads: 2 });
// @ts-expect-error a code that there is not
console.log(new SprintExportError("x", "y").code === "nothing");
export { drawings, enough, file, ids, mask, milliseconds, most, noise, shown, wide, words };
