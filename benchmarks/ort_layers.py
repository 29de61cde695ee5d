"""Which layers INT8 pays for in ONNX Runtime: every layer shape of a network alone, float32 against INT8, random weights.

    python benchmarks/ort_layers.py transformer --out benchmarks/results       # or text_encoder, vae_decoder --pixels 512

Each distinct layer that the balanced recipe quantizes is exported as a graph of its own, with the target's rewrites, and runs
several times, one graph after the other (waiting threads of the last one spin); the least time counts. Alone, INT8 pays for
rounding its input and a float convolution for its blocked layout, which a network shares: a ratio tells the winner, not the gain.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from sprint_export.conversion import keep_components
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.nouns.target import LayerShape
from sprint_export.quantize.patterns import explain_recipe
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_target
from sprint_export.runtimes.onnx_cpu.runtime import make_options
from sprint_export.runtimes.onnx_cpu.target import rounds_output
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.presets import build_preset
from sprint_export.students.sana_sprint.published import PRESETS
from sprint_export.validate.machine import describe_machine
from sprint_export.weights import random_handle

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

PRESET, RUNS = "sana-sprint-0.6b", 5
TARGET = load_target("onnx")
AMAX = 5.0  # of unit noise


def make_student(role: str, pixels: int) -> Student:
    """The published network for pictures of this side."""
    preset = PRESETS[PRESET]
    side = pixels // 2 ** (len(preset.vae["decoder_block_types"]) - 1)
    preset = dataclasses.replace(preset, transformer={**preset.transformer, "sample_size": side})
    return keep_components(specialize_student(build_preset(preset, f"random:{PRESET}", 0)), [role])


def list_shapes(student: Student, role: str) -> dict[str, tuple[torch.nn.Module, tuple[int, ...], list[str]]]:
    """By shape: a layer, its input's shape, and the names of all like it; only those that are INT8 by default."""
    component = student.components[role]
    decisions = explain_recipe(default_recipe("int8", student, TARGET), student)
    chosen = {d.layer.partition(".")[2] for d in decisions if d.precision == "w8a8"}
    found: dict[str, tuple[torch.nn.Module, tuple[int, ...], list[str]]] = {}

    def note(name: str, layer: torch.nn.Module, shape: tuple[int, ...]) -> None:
        found.setdefault(f"{layer.extra_repr()} of {shape}", (layer, shape, []))[2].append(name)

    for name, module in component.module.named_modules():
        if name in chosen:
            module.register_forward_pre_hook(lambda layer, given, name=name: note(name, layer, tuple(given[0].shape)))
    with torch.no_grad():
        component.module(*(_meta(spec) for spec in component.inputs))
    return found


def _meta(spec: TensorSpec) -> torch.Tensor:
    return torch.zeros([int(size) for size in spec.shape], dtype=getattr(torch, spec.dtype), device="meta")


class Alone(torch.nn.Module):
    """One layer and what reads it: an output that nothing reads would not be rounded."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x -> y."""
        return torch.relu(self.layer(x))


def open_both(layer: torch.nn.Module, shape: tuple[int, ...], folder: Path) -> Iterator[Any]:
    """Sessions of the layer in float32 and in INT8."""
    for hooks in (layer._forward_pre_hooks, layer._forward_hooks):
        hooks.clear()
    module = Alone(layer)
    weights = {n: random_handle(n, tuple(v.shape), 0.05) for n, v in module.state_dict().items()}
    with torch.no_grad():
        out = tuple(module(torch.zeros(shape, device="meta")).shape)
    specs = (TensorSpec("x", "float32", shape, ""),), (TensorSpec("y", "float32", out, ""),)
    plain = Component("layer", module, weights, *specs)
    gives = AMAX if rounds_output("w8a8", LayerShape(weights["layer.weight"].shape)) else None
    how = QuantizedLayer("w8a8", AMAX, 0, "fp32", 0, gives)
    for name, component in (("fp32", plain), ("int8", dataclasses.replace(plain, layers={"layer": how}))):
        path = folder / name / "model.onnx"
        write_graph(make_graph(component, "fp32", TARGET.rewrites), path)
        yield onnxruntime.InferenceSession(str(path), make_options(), providers=["CPUExecutionProvider"])


def time_session(session: Any, x: np.ndarray) -> float:
    """Least milliseconds."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        session.run(None, {"x": x})
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


def main() -> None:
    """Time all shapes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rows = []
    for layer, shape, names in list_shapes(make_student(options.role, options.pixels), options.role).values():
        with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
            x = np.random.default_rng(0).standard_normal(shape, np.float32)
            whole, rounded = [time_session(session, x) for session in open_both(layer, shape, Path(folder))]
        row = {"like": names[0], "layers": len(names), "input": list(shape), "layer": layer.extra_repr()}
        row |= {"fp32_ms": round(whole, 2), "int8_ms": round(rounded, 2), "ratio": round(rounded / whole, 2)}
        rows.append(row)
        print(row, flush=True)
    found = {"command": f"python benchmarks/ort_layers.py {options.role} --pixels {options.pixels}"}
    found |= {"machine": describe_machine(), "onnxruntime": onnxruntime.__version__, "rows": rows}  # type: ignore[dict-item]
    (options.out / f"ort_layers_{options.role}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
