"""What the scales of 8-bit weights cost at full size: SANA-Sprint 0.6B at 1024 px, random weights, made and evaluated on Linux.

    python benchmarks/half_scales.py weights --row after --out benchmarks/results
    OMP_NUM_THREADS=2 python benchmarks/half_scales.py picture --row after --out benchmarks/results

`weights`: for every target the weight signal-to-noise ratio of each 8-bit layer of the decoder and the transformer, and how many
decibels are lost to the type of its scales, against the same rounding with scales in float64. `picture`: the decoder as a Core ML
package with 8-bit weights, evaluated op by op and compared with PyTorch float32 on the same unit noise. Nothing here ran on a
device.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sprint_export.conversion import keep_components
from sprint_export.devices import find_device
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate.machine import describe_machine

STUDENT = "random:sana-sprint-0.6b"
DECODER, TRANSFORMER = "vae_decoder", "transformer"
TARGETS = ("coreml-int8", "coreai-int8", "openvino-int8", "onnx-int8", "trt-int8")


def decibels(signal: torch.Tensor, noise: torch.Tensor) -> float:
    """10 log10 of the ratio of their powers."""
    return 10 * math.log10(float(signal.double().square().mean()) / max(float(noise.double().square().mean()), 1e-300))


def weigh(weight: torch.Tensor, layer: QuantizedLayer) -> tuple[float, float]:
    """A layer's weight signal-to-noise ratio in dB, and what scales of unlimited range and precision would give."""
    from sprint_export.quantize.scales import round_weight
    from sprint_export.quantize.schemes.scheme import load_scheme

    format = load_scheme(layer.scheme).weights
    ideal = weight.double().flatten(1).abs().amax(1).clamp_min(1e-300) / format.qmax
    wide = ideal.reshape(-1, *(1,) * (weight.ndim - 1))
    best = (weight.double() / wide).round().clamp(format.qmin, format.qmax) * wide
    return decibels(weight, round_weight(weight, layer).double() - weight.double()), decibels(weight, best - weight.double())


def measure_weights(name: str, roles: Sequence[str]) -> dict[str, Any]:
    """The worst layers of these networks for one target; ranges of inputs are not needed for weights."""
    from sprint_export.quantize import quantize_student

    target, precision = load_target(name.partition("-")[0]), name.partition("-")[2]
    student = keep_components(specialize_student(load_student(STUDENT)), roles)
    # Weights alone: every layer of the recipe, without the hours of calibration that ranges of its inputs would take.
    offers = {precision: dataclasses.replace(target.offers[precision], scheme="w8a16")}
    alone = dataclasses.replace(target, offers=offers, rounds_output=None)
    student = quantize_student(student, precision, alone, plain_recipe(student, name))
    layers: list[tuple[float, float, str]] = []
    for role, component in student.components.items():
        layers += [(*measured, f"{role}.{layer}") for layer, measured in weigh_component(component)]
    worst = min(layers)
    lost = max(layers, key=lambda row: row[1] - row[0])
    below = [f"{layer}: {found:.1f} dB" for found, _, layer in sorted(layers) if found < 40]
    return {
        "networks": list(roles),
        "layers": len(layers),
        "worst_db": round(worst[0], 2),
        "worst_layer": worst[2],
        "most_lost_to_scales_db": round(lost[1] - lost[0], 2),
        "most_lost_layer": lost[2],
        "below_40_db": below,
        "notes": [note for component in student.components.values() for note in component.notes if note.startswith("float")],
    }


def plain_recipe(student: Any, name: str) -> Any:
    """The target's default recipe without what needs calibration."""
    from sprint_export.quantize.recipes import default_recipe

    target, precision = load_target(name.partition("-")[0]), name.partition("-")[2]
    return dataclasses.replace(default_recipe(precision, student, target), smooth=0.0, correct_bias=False)


def weigh_component(component: Component) -> list[tuple[str, tuple[float, float]]]:
    """Each 8-bit layer of integers with its two figures, one weight in memory at a time."""
    from sprint_export.quantize.schemes.formats import INT8
    from sprint_export.quantize.schemes.scheme import load_scheme

    chosen = {name: layer for name, layer in component.layers.items() if load_scheme(layer.scheme).weights == INT8}
    return [(name, weigh(component.weights[f"{name}.weight"].load().float(), layer)) for name, layer in chosen.items()]


def measure_picture(precision: str) -> dict[str, Any]:
    """The decoder's picture from the saved package beside PyTorch float32."""
    import numpy as np

    from sprint_export.export import export_student
    from sprint_export.options import complete_options
    from sprint_export.quantize import quantize_student
    from sprint_export.quantize.torch_session import TorchSession
    from sprint_export.runtimes.open import open_session
    from sprint_export.runtimes.runtime import load_runtime
    from sprint_export.validate.images import psnr_arrays

    target, place = load_target("coreml"), find_device("iphone-15-pro")
    options = complete_options(target, precision, place, {})
    whole = specialize_student(load_student(STUDENT), layout=target.choose_layout(options))
    student = quantize_student(keep_components(whole, [DECODER]), precision, target)
    component = whole.components[DECODER]
    feeds = {"latents": np.random.default_rng(0).standard_normal(component.inputs[0].shape, np.float32)}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        start = time.monotonic()
        bundle = export_student(student, Deployment(target, precision, place, options), Path(folder) / "out")
        made = time.monotonic() - start
        session = open_session(bundle, load_runtime("coreml-checker"), DECODER)
        start = time.monotonic()
        found = session.run(feeds)["image"]
        checked = time.monotonic() - start
        findings = {row.metric: row.value for row in session.findings()}  # type: ignore[attr-defined]
        megabytes = sum(artifact.bytes for artifact in bundle.artifacts if artifact.kind == "weights") / 1e6
    wanted = TorchSession(component).run(feeds)["image"]
    return {
        "psnr_db": round(psnr_arrays(found, wanted), 2),
        "weights_mb": round(megabytes, 1),
        "export_s": round(made, 1),
        "check_s": round(checked, 1),
        "findings": findings,
        "notes": list(student.components[DECODER].notes),
    }


def main() -> None:
    """Measure, and put the rows into the table; others stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "picture"))
    parser.add_argument("--row", required=True, help="what the rows are called, e.g. before or after")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--role", choices=(TRANSFORMER, DECODER), action="append", help="of weights; both if left out")
    parser.add_argument("--precision", choices=("fp16", "int8", "w6", "w4"), action="append")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    weights = {name: partial(measure_weights, name, asked.role or (TRANSFORMER, DECODER)) for name in asked.target or TARGETS}
    pictures = {precision: partial(measure_picture, precision) for precision in asked.precision or ("int8",)}
    path = asked.out / "half_scales.json"
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = json.loads(path.read_text())["rows"] if path.is_file() else {}
    command = " ".join(["python benchmarks/half_scales.py", *sys.argv[1:]])
    for name, measure in (weights if asked.what == "weights" else pictures).items():
        start = time.monotonic()
        row = measure()
        rows[f"{asked.what} {name} {asked.row}"] = row | {"seconds": round(time.monotonic() - start, 1), "command": command}
        print(name, json.dumps(row, indent=1), flush=True)
        path.write_text(json.dumps({"machine": describe_machine(), "student": STUDENT, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
