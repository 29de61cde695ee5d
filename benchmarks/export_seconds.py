"""What making a network's graph and writing it takes, phase by phase, and how it grows with the number of layers.

    python benchmarks/export_seconds.py --layers 4,14,28 --before ../before/src --out benchmarks/results/export_seconds.json
    python benchmarks/export_seconds.py --roles text_encoder --student /tmp/students/0.6b

Every row is a process of its own: CPU seconds of each phase of `OnnxExporter.write_component`, wall seconds, and peak memory as
the system counts it. Layers are those of the balanced recipe with a made-up range. Without --student nothing is written, and
weights do not exist; with it the network of a folder is written, as deep as it is. `--before` is the source folder of another
tree, measured in turn with this one; `torch` is `torch.onnx.export(dynamo=True)` of the same module, which writes nothing either.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("translate_module", "run_passes", "insert_qdq", "rewrite_graph", "write_graph", "write_shadow")
DEPTHS = {"text_encoder": 26, "transformer": 28, "vae_decoder": None}
RANGE = 4.0


def measure(role: str, layers: int | None, name: str, source: str | None) -> dict[str, Any]:
    """Seconds and memory of one network, in this process."""
    from sprint_export.devices import find_device
    from sprint_export.export.exporter import load_exporter
    from sprint_export.export.to_onnx import writer
    from sprint_export.options import complete_options
    from sprint_export.registry import load_target
    from sprint_export.thread_count import fixed_threads

    family, _, precision = name.partition("-")
    target, seconds = load_target(family), dict[str, float]()

    def timed(phase: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return run(*given, **named)
            finally:
                seconds[phase] = round(time.process_time() - start, 2)

        return call

    for phase in PHASES:
        setattr(writer, phase, timed(phase, getattr(writer, phase)))
    start = time.perf_counter()
    component = load_component(role, layers, target, precision, source, timed)
    if source is None:
        writer.write_graph = writer.write_shadow = lambda *_: None
    options = complete_options(target, precision, find_device(target.default_device), {})
    with tempfile.TemporaryDirectory() as folder, fixed_threads():
        load_exporter(target).write_component(component, target, precision, options, Path(folder))
    wall = time.perf_counter() - start
    return {"cpu_seconds": seconds, "wall_seconds": round(wall, 1), "peak_gb": peak()}


def measure_torch(role: str, layers: int | None, name: str, source: str | None) -> dict[str, Any]:
    """torch's own exporter, with its default passes, on the same module."""
    import torch

    from sprint_export.export.to_onnx import writer
    from sprint_export.nouns.recipe import FLOAT_DTYPES
    from sprint_export.registry import load_target

    family, _, precision = name.partition("-")
    target = load_target(family)
    component = load_component(role, layers, target, precision, source, lambda _, run: run)
    module = writer._cast(component.module, getattr(torch, FLOAT_DTYPES[target.graph_dtype[precision]]))
    example = writer.make_example(component.inputs)[0]
    start, wall = time.process_time(), time.perf_counter()
    with writer._quiet(), torch.no_grad():
        torch.onnx.export(module, example, dynamo=True, opset_version=writer.OPSET, verbose=False)
    cpu = round(time.process_time() - start, 2)
    return {"cpu_seconds": {"torch.onnx.export": cpu}, "wall_seconds": round(time.perf_counter() - wall, 1), "peak_gb": peak()}


def load_component(role: str, layers: int | None, target: Any, precision: str, source: str | None, timed: Any) -> Any:
    """A specialized network that is quantized by the balanced recipe, with one range for all inputs."""
    import ort_nodes

    from sprint_export.nouns.recipe import QuantizedLayer
    from sprint_export.quantize.patterns import FLOAT, explain_recipe
    from sprint_export.quantize.recipes import default_recipe, fit_recipe
    from sprint_export.quantize.schemes.scheme import load_scheme
    from sprint_export.specialize import specialize_student
    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, build_preset
    from sprint_export.students.source import load_student

    if source is None:
        student = build_preset(ort_nodes.shorten(role, layers, 1024), "random", 0, LONG_PREFIX)
    else:
        student = timed("load_student", load_student)(source)
    student = timed("specialize_student", specialize_student)(student)
    component = student.components[role]
    found = {}
    for decision in explain_recipe(fit_recipe(default_recipe(precision, student, target), precision, student, target), student):
        owner, _, name = decision.layer.partition(".")
        if owner == role and decision.precision != FLOAT:
            scheme, shape = load_scheme(decision.precision), component.weights[f"{name}.weight"].shape
            amax = RANGE if scheme.inputs is not None and not scheme.inputs.is_dynamic else None
            dtype, group = target.scale_dtype or target.graph_dtype[precision], target.find_offer(decision.precision).group
            found[name] = QuantizedLayer(decision.precision, amax, scheme.weight_axis, dtype, scheme.fit_group(shape, group))
    return dataclasses.replace(component, layers=found)


def peak() -> float:
    """Of this process, GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def main() -> None:
    """A row for each network, depth and tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roles", default=",".join(DEPTHS))
    parser.add_argument("--layers", help="of the transformer and the text encoder; default: their own")
    parser.add_argument("--target", default="trt-fp8")
    parser.add_argument("--student", help="a folder, whose networks are written")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--torch", action="store_true", help="torch's own exporter too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        kind, role, layers = chosen.row.split(",")
        run = measure_torch if kind == "torch" else measure
        print(json.dumps(run(role, int(layers) if layers else None, chosen.target, chosen.student)))
        return
    trees = {"now": os.environ.get("PYTHONPATH", "")} | ({"before": str(chosen.before)} if chosen.before else {})
    trees |= {"torch": trees["now"]} if chosen.torch else {}
    rows = []
    for role in chosen.roles.split(","):
        own = DEPTHS[role] is None or chosen.student or not chosen.layers
        for layers in [DEPTHS[role]] if own else [int(count) for count in chosen.layers.split(",")]:
            for tree, path in trees.items():
                row = f"{tree},{role},{layers or ''}"
                command = [sys.executable, __file__, "--row", row, "--target", chosen.target]
                command += ["--student", chosen.student] if chosen.student else []
                done = subprocess.run(
                    command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
                )
                rows.append({"tree": tree, "role": role, "layers": layers} | json.loads(done.stdout.splitlines()[-1]))
                print(json.dumps(rows[-1]), flush=True)
    if chosen.out:
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        chosen.out.write_text(f'{{"command": "{" ".join(sys.argv)}",\n "rows": [\n  {lines}\n ]}}\n')


if __name__ == "__main__":
    main()
