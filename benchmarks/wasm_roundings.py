"""Why integer graphs draw other pictures in WebAssembly than in Python: kernels, nodes, roundings in a network, pictures.

    python benchmarks/wasm_roundings.py                                          # about 5 minutes on two cores
    python benchmarks/wasm_roundings.py --bundle twinflow-tiny:onnx-int8

`kernels`: integer operators of onnxruntime-web on values made to find saturation, other ties and lost carries, beside Python.
`nodes`: every node of a network as ONNX Runtime runs it (its fusions done), alone, on the values that it has in Python, of the
seed with the largest difference. `network`: the whole network on Python's inputs: how many codes of 8 bits differ, and how far
from the edge between two codes the float was that was rounded otherwise first, in steps.
`pictures`: of several seeds, the largest difference of 255 from Python's: in Chromium, and in Python itself where each value of
the noise is moved to the next float up or down; how far both are from the pictures of the float32 bundle.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from embedding_case import Call, Recorder
from wasm_case import Array, Difference, NodeRun, compare_in_wasm, optimize, run_every_node, run_in_python, split_nodes

from sprint_export.conversion import convert
from sprint_export.noise import make_noise
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.session import Pipeline
from sprint_export.validate.machine import describe_machine
from tests.runtimes.javascript.programs import HERE, make_work_folder, run_in_browser

OUT = Path("benchmarks/results/wasm_roundings.json")
BUNDLES = ("sprint-tiny:web-int8", "twinflow-tiny:onnx-int8", "control-tiny:onnx-int8")
FLOAT = "onnx-fp32"
PROMPT = "a large red circle above a small blue square"
SEEDS = 15
OPSET, INTERNAL = 21, "com.microsoft"
CODES = ("uint8", "int8")


def make_kernels() -> Iterator[NodeRun]:
    """Integer operators on values that tell other arithmetic apart."""
    rng = np.random.default_rng(0)
    scale = np.array(0.0371, np.float32)
    ties = ((np.arange(-40, 300) + np.float32(0.5)) * scale).astype(np.float32)
    edges = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)] + [ties])
    dense = rng.uniform(-3, 12, 200_000).astype(np.float32)
    for name, values in (("ties and their neighbours", edges), ("at random", dense)):
        yield make_run("QuantizeLinear", name, {"x": values}, {"scale": scale, "zero": np.array(128, np.uint8)})
    for depth in (64, 1152, 5760):
        yield from make_products(rng, depth)
    yield make_convolution(rng)
    codes = np.arange(256, dtype=np.uint8)
    yield make_run("DequantizeLinear", "all codes", {"x": codes}, {"scale": scale, "zero": np.array(7, np.uint8)})


def make_products(rng: np.random.Generator, depth: int) -> Iterator[NodeRun]:
    """Sums of 8-bit products: the largest there are, of which two overflow 16 bits, and random ones."""
    largest = (
        np.full((4, depth), 255, np.uint8),
        np.where(np.arange(8) % 2, 127, -127).astype(np.int8) * np.ones((depth, 1), np.int8),
    )
    random = rng.integers(0, 256, (9, depth), np.uint8), rng.integers(-127, 128, (depth, 33), np.int8)
    for name, (left, right) in (("largest", largest), ("random", random)):
        zeros = {"zero": np.array(128, np.uint8)}
        yield make_run("MatMulInteger", f"{name}, {depth} terms", {"left": left}, {"right": np.ascontiguousarray(right)} | zeros)


def make_convolution(rng: np.random.Generator) -> NodeRun:
    """QLinearConv of full range, its sums rounded to 8 bits again."""
    x = rng.integers(0, 256, (1, 48, 16, 16), np.uint8)
    weight = rng.integers(-127, 128, (32, 48, 3, 3), np.int8)
    constants = {
        "x_scale": np.array(0.02, np.float32),
        "x_zero": np.array(120, np.uint8),
        "weight": weight,
        "w_scale": rng.uniform(0.001, 0.01, 32).astype(np.float32),
        "w_zero": np.zeros(32, np.int8),
        "y_scale": np.array(0.9, np.float32),
        "y_zero": np.array(128, np.uint8),
        "bias": rng.integers(-9000, 9000, 32, np.int32),
    }
    return make_run("QLinearConv", "3 x 3, full range", {"x": x}, constants, pads=[1, 1, 1, 1])


def make_run(operator: str, name: str, feeds: Mapping[str, Array], constants: Mapping[str, Array], **attributes: Any) -> NodeRun:
    """A model of one standard operator: what is fed first, then its constants, in this order."""
    node = helper.make_node(operator, [*feeds, *constants], ["y"], **attributes)
    inputs = [
        helper.make_tensor_value_info(each, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for each, value in feeds.items()
    ]
    held = [onnx.numpy_helper.from_array(value, each) for each, value in constants.items()]
    graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name="y")], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return run_in_python(NodeRun(operator, name, model, dict(feeds)))


def record_calls(pipeline: Pipeline, seed: int) -> list[Call]:
    """What every network read and wrote for one picture."""
    calls: list[Call] = []
    recorders = {role: Recorder(session, role, calls) for role, session in pipeline.executor.sessions.items()}
    pipeline.over(recorders)([PROMPT], seed=seed)
    return calls


def compare_networks(work: Path, bundle: Path, seed: int) -> dict[str, Any]:
    """`nodes` and `network` of each network of a picture."""
    found = {}
    for call in record_calls(open_bundle(bundle), seed):
        model = optimize(bundle / call.role / "model.onnx", work / "optimized.onnx")
        values = run_every_node(model, call.feeds)
        whole = NodeRun(
            "network",
            call.role,
            show_all(model),
            call.feeds,
            {n: values[n] for node in model.graph.node for n in node.output if n},
        )
        nodes = compare_in_wasm(work, split_nodes(model, values))
        found[call.role] = {"nodes": gather_nodes(nodes), "network": compare_whole(work, whole, model)}
        print(call.role, json.dumps(found[call.role]["network"]), flush=True)
    return found


def show_all(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every value among its outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return shown


def gather_nodes(differences: Sequence[Difference]) -> dict[str, Any]:
    """By operator: nodes, values, how many are apart, the largest difference over the output's largest value, or in codes."""
    found: dict[str, Any] = {}
    for each in differences:
        row = found.setdefault(each.operator, {"nodes": 0, "values": 0, "apart": 0, "largest": 0.0, "codes": None})
        row["nodes"] += 1
        row["values"] += each.values
        row["apart"] += each.apart
        row["largest"] = max(row["largest"], each.largest)
        if each.steps is not None:
            row["codes"] = max(row["codes"] or 0, each.steps)
    return dict(sorted(found.items()))


def compare_whole(work: Path, whole: NodeRun, model: onnx.ModelProto) -> dict[str, Any]:
    """The network in WebAssembly: codes that differ, where first, and how far those floats are from the edge of two codes."""
    outputs = read_outputs(work, whole)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rounded = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    tipped, edges, order = 0, [], []
    for place, node in enumerate(rounded):
        apart = outputs[node.output[0]] != whole.written[node.output[0]]
        if not apart.any():
            continue
        source = {**whole.feeds, **whole.written}[node.input[0]]
        steps = np.broadcast_to(source, apart.shape)[apart].astype(np.float64) / float(constants[node.input[1]])
        distance = np.abs(np.abs(steps - np.floor(steps)) - 0.5)
        tipped, order = tipped + int(apart.sum()), [*order, place]
        edges.append(float(distance.max()))
    total = sum(whole.written[node.output[0]].size for node in rounded)
    others = [n for n, v in whole.written.items() if v.dtype.name in CODES and n not in {node.output[0] for node in rounded}]
    also = sum(int(np.count_nonzero(outputs[name] != whole.written[name])) for name in others)
    return {
        "roundings": len(rounded),
        "codes": total,
        "tipped": tipped,
        "first": f"{order[0] + 1} of {len(rounded)}" if order else "none",
        "first_edge": edges[0] if edges else 0.0,
        "other_codes_apart": also,
    }


def read_outputs(work: Path, whole: NodeRun) -> dict[str, Array]:
    """All values in WebAssembly."""
    compare_in_wasm(work, [whole])
    files = (work / "wasm_nodes" / f"0.{i}.out" for i in range(len(whole.written)))
    return {
        name: np.fromfile(file, value.dtype).reshape(value.shape)
        for file, (name, value) in zip(files, whole.written.items(), strict=True)
    }


def compare_pictures(work: Path, bundle: Path, floats: Path) -> dict[str, Any]:
    """Chromium's pictures beside Python's, and Python's beside its own of noise moved by one float."""
    pipeline, rng = open_bundle(bundle), np.random.default_rng(1)
    steps, shape = pipeline.plan.steps, pipeline.latent_shape
    noises = [make_noise(seed, steps, 1, shape) for seed in range(SEEDS)]
    moved = [np.nextafter(noise, np.where(rng.random(noise.shape) < 0.5, np.float32(-9), np.float32(9))) for noise in noises]
    wanted, nudged = (np.concatenate([pipeline([PROMPT], noise=noise) for noise in each]) for each in (noises, moved))
    exact = np.concatenate([open_bundle(floats)([PROMPT], noise=noise) for noise in noises])
    drawings = [{"prompt": PROMPT, "seed": seed} for seed in range(SEEDS)]
    job = {"do": "draw", "bundle": bundle.relative_to(work).as_posix(), "options": {"threads": 1}, "drawings": drawings}
    [result] = run_in_browser(work, [job])["results"]
    drawn = np.stack([read_rgb(one) for one in result["value"]])
    sides = {"Chromium": drawn, "Python, noise moved by one float": nudged}
    found: dict[str, Any] = {name: describe_distance(pictures, wanted) for name, pictures in sides.items()}
    found["worst_seed"] = int(np.abs(drawn.astype(int) - wanted).max(axis=(1, 2, 3)).argmax())
    return found | {
        f"Python, from {FLOAT}": describe_distance(wanted, exact),
        f"Chromium, from {FLOAT}": describe_distance(drawn, exact),
    }


def read_rgb(drawn: Mapping[str, Any]) -> Array:
    """uint8 [H, W, 3] of what jobs.js gives."""
    return np.frombuffer(base64.b64decode(drawn["rgba"]), np.uint8).reshape(drawn["height"], drawn["width"], 4)[..., :3]


def describe_distance(found: Array, wanted: Array) -> dict[str, Any]:
    """Largest difference of 255 over all pictures, of how many the largest is above 2, mean and worst PSNR."""
    apart = np.abs(found.astype(int) - wanted).max(axis=(1, 2, 3))
    decibels = psnr_images(found, wanted)
    return {
        "largest": int(apart.max()),
        "pictures_above_2": int((apart > 2).sum()),
        "psnr_db": round(float(decibels.mean()), 2),
        "worst_psnr_db": round(float(decibels.min()), 2),
    }


def main() -> None:
    """Measure; the file is whole after each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", metavar="STUDENT:TARGET", help=f"default: {', '.join(BUNDLES)}")
    parser.add_argument("--work", type=Path, help="bundles made here stay, as embedding.py's; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    value = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"bundles": {}}
    npm = json.loads((HERE / "packages.json").read_text("utf-8"))["dependencies"]
    value |= {"command": "python benchmarks/wasm_roundings.py", "machine": describe_machine(), "pictures_each": SEEDS}
    value["versions"] = {"onnxruntime": __import__("onnxruntime").__version__, "onnxruntime-web": npm["onnxruntime-web"]}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as temporary:
        work = make_work_folder(Path(temporary) / "javascript")
        bundles = work / "bundles"
        if asked.work:
            asked.work.mkdir(parents=True, exist_ok=True)
            bundles.symlink_to(asked.work.resolve())
        value["kernels"] = [asdict(each) for each in compare_in_wasm(work, list(make_kernels()))]
        print(json.dumps(value["kernels"], indent=1), flush=True)
        for name in asked.bundle or BUNDLES:
            student, target = name.split(":")
            folders = [bundles / student / each / "bundle" for each in (target, FLOAT)]
            for each, folder in zip((target, FLOAT), folders, strict=True):
                if not folder.exists():
                    convert(student, each, folder, validate=False)
            pictures = compare_pictures(work, *folders)
            print(name, json.dumps(pictures, indent=1), flush=True)
            date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            value["bundles"][name] = {
                "date": date,
                "pictures": pictures,
                "networks": compare_networks(work, folders[0], pictures["worst_seed"]),
            }
            asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
