"""SANA-Sprint 0.6B's transformer at 1024 px, random weights: our trt-fp8 beside a plain torch.onnx.export in bf16.

    python benchmarks/full_size_transformer.py --out benchmarks/results

Every phase runs in its own process, so peak memory is the phase's own. Both graphs go through one builder and one price list
(validate/kernels.py). Priced milliseconds are arithmetic on the builder's kernel table, not a measured latency.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sprint_export.devices import find_device
from sprint_export.validate.kernels import parse_kernels, price_kernels
from sprint_export.validate.machine import describe_machine

STUDENT, TARGET, DEVICE = "random:sana-sprint-0.6b", "trt-fp8", "rtx-4090"
PROMPTS = 4  # random weights: ranges are what they are, the bytes and kernels do not depend on them


def _specialized() -> Any:
    from sprint_export.registry import load_member
    from sprint_export.road import keep_components
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student

    student = keep_components(specialize_student(load_student(STUDENT)), ["transformer"])
    return student, load_member("target", "trt").TARGET


def _recipe(student: Any) -> Any:
    from dataclasses import replace

    from sprint_export.quantize.recipes import default_recipe

    recipe = default_recipe("fp8", student)
    return replace(recipe, prompts=recipe.prompts[:PROMPTS])


def calibrate(out: Path) -> None:
    """Ranges of the specialized transformer, in torch."""
    from sprint_export.quantize import quantize_student

    student, target = _specialized()
    quantize_student(student, "fp8", target, _recipe(student))


def export(out: Path) -> None:
    """Quantize from the cached ranges, capture, write."""
    from sprint_export.export import export_student
    from sprint_export.quantize import quantize_student

    student, target = _specialized()
    quantized = quantize_student(student, "fp8", target, _recipe(student))
    export_student(quantized, target, "fp8", find_device(DEVICE), out / "ours")


def build(out: Path) -> None:
    """The engine of the exported graph."""
    _build(out / ".ours.partial" / "transformer" / "model.onnx")


def plain_export(out: Path) -> None:
    """What one writes without this package: the stock module in bf16 through torch.onnx.export."""
    import torch

    from sprint_export.students import load_student
    from sprint_export.weights import materialize

    component = load_student(STUDENT).components["transformer"]
    module = materialize(component.module, component.weights, torch.bfloat16)
    bf16 = torch.bfloat16
    inputs = {
        "hidden_states": torch.zeros(1, 32, 32, 32, dtype=bf16),
        "encoder_hidden_states": torch.zeros(1, 300, 2304, dtype=bf16),
        "timestep": torch.ones(1),
        "guidance": torch.full((1,), 0.45, dtype=bf16),
        "encoder_attention_mask": torch.ones(1, 300, dtype=torch.int64),
    }
    (out / "plain").mkdir(exist_ok=True)
    torch.onnx.export(module, (), str(out / "plain" / "model.onnx"), kwargs=inputs, dynamo=True, external_data=True)


def plain_build(out: Path) -> None:
    """The engine of the plain graph."""
    _build(out / "plain" / "model.onnx")


def _build(graph: Path) -> None:
    from sprint_export.runtimes.trt_engine import build as build_engine

    build_engine(graph, find_device(DEVICE), "tensorrt-rtx", lambda message: None)


PHASES: dict[str, Callable[[Path], None]] = {
    "calibrate": calibrate,
    "export": export,
    "build": build,
    "plain_export": plain_export,
    "plain_build": plain_build,
}


def measure(phase: str, work: Path) -> dict[str, float]:
    """Seconds and peak gigabytes of one phase in a process of its own (imports included)."""
    script = (
        "import json, resource, sys; from pathlib import Path; import full_size_transformer as f;"
        f"f.PHASES[{phase!r}](Path({str(work)!r}));"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{phase} failed:\n{done.stderr[-3000:]}")
    peak = float(done.stdout.strip().splitlines()[-1]) * 1024 / 1e9
    return {"seconds": round(time.monotonic() - start, 1), "peak_gb": round(peak, 2)}


def weigh(folder: Path) -> dict[str, Any]:
    """Files, kernels and price of one graph's engine."""
    table = next(folder.glob("*.layers.txt"))
    summary = price_kernels(parse_kernels(table.read_text()), find_device(DEVICE))
    graph = sum(p.stat().st_size for p in folder.glob("model.onnx*"))
    return {
        "graph_mb": round(graph / 1e6, 1),
        "engine_mb": round(next(folder.glob("*.engine")).stat().st_size / 1e6, 1),
        "kernels": summary.kernels,
        "priced_ms": round(summary.milliseconds, 2),
        "moved_gb": round(summary.bytes / 1e9, 2),
        "multiplying_kernels": dict(summary.by_dtype),
        "fused_attention": summary.attention_kernels,
    }


def main() -> None:
    """Run all phases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        work = Path(folder)
        os.environ["SPRINT_EXPORT_CACHE"] = str(work / "cache")
        phases = {}
        for phase in PHASES:
            phases[phase] = measure(phase, work)
            print(phase, phases[phase], flush=True)
        found = {
            "command": "python benchmarks/full_size_transformer.py",
            "machine": describe_machine(),
            "student": STUDENT,
            "phases": phases,
            "ours": weigh(work / ".ours.partial" / "transformer"),
            "plain bf16": weigh(work / "plain"),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "full_size_transformer.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
