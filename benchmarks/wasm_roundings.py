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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from embedding_case import Call, Recorder, place_bundles

from sprint_export.conversion import convert
from sprint_export.noise import make_noise
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.session import Pipeline
from sprint_export.validate.machine import describe_machine
from tests.runtimes.javascript.integer_kernels import make_kernels
from tests.runtimes.javascript.programs import HERE, make_work_folder, run_in_browser
from tests.runtimes.javascript.wasm_nodes import (
    Array,
    Difference,
    NodeRun,
    compare_in_wasm,
    optimize,
    run_every_node,
    split_nodes,
)

OUT = Path("benchmarks/results/wasm_roundings.json")
BUNDLES = ("sprint-tiny:web-int8", "twinflow-tiny:onnx-int8", "control-tiny:onnx-int8")
FLOAT = "onnx-fp32"
PROMPT = "a large red circle above a small blue square"
SEEDS = 15
CODES = ("uint8", "int8")


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
    answer = run_in_browser(work, [job])
    [result] = answer["results"]
    drawn = np.stack([read_rgb(one) for one in result["value"]])
    sides = {"Chromium": drawn, "Python, noise moved by one float": nudged}
    found: dict[str, Any] = {name: describe_distance(pictures, wanted) for name, pictures in sides.items()}
    found["browser"] = answer["browser"]
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
    value["versions"] = {"onnxruntime": version("onnxruntime"), "onnxruntime-web": npm["onnxruntime-web"]}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as temporary:
        work = make_work_folder(Path(temporary) / "javascript")
        bundles = place_bundles(work, asked.work)
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
