"""Gemma-2-2b as SANA-Sprint's text encoder, random weights, by the number of its layers: TensorRT engines and their price.

    python benchmarks/full_size_text_encoder.py --out benchmarks/results                # 2 and 4 layers; minutes
    python benchmarks/full_size_text_encoder.py --out benchmarks/results --layers 26    # all; the builder takes 17 GB

Cases: the instruction held as keys and values or computed with every prompt, fewer rows of text, and weights alone in few bits.
Every case runs in its own process, so peak memory is its own. Priced milliseconds are arithmetic on the builder's kernel table,
not a measured latency; layers are alike, so the whole encoder's price follows from two counts of them.
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
from pathlib import Path
from typing import Any

from sprint_export.devices import find_device
from sprint_export.validate.machine import describe_machine

DEVICE, ALL_LAYERS = "rtx-4090", 26
PROMPTS = 2  # random weights: ranges are what they are, the bytes and kernels do not depend on them
CASES: dict[str, dict[str, Any]] = {
    "fp8": {"precision": "fp8"},
    "fp8, prefix computed": {"precision": "fp8", "prefix_cache": False},
    "fp8, 77 rows": {"precision": "fp8", "prompt_tokens": 77},
    "bf16": {"precision": "bf16"},
    "bf16, prefix computed": {"precision": "bf16", "prefix_cache": False},
    "int4 weights": {"precision": "int4"},
    "w8a16 weights": {"precision": "w8a16"},
}


def run_case(case: str, layers: int, work: str) -> dict[str, Any]:
    """Specialize, quantize, export and build a text encoder of so many layers; what its engine costs."""
    from sprint_export.conversion import keep_components
    from sprint_export.export.to_onnx.writer import make_graph, write_graph
    from sprint_export.nouns.recipe import Recipe, Rule
    from sprint_export.quantize import quantize_student
    from sprint_export.registry import load_target
    from sprint_export.runtimes.trt.kernels import parse_kernels, price_kernels
    from sprint_export.runtimes.trt.target import TARGET
    from sprint_export.specialize import specialize_student
    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, build_preset
    from sprint_export.students.sana_sprint.published import GEMMA_2_2B, PRESETS

    choice = dict(CASES[case])
    precision, folder = choice.pop("precision"), Path(work) / f"{case}-{layers}"
    config = GEMMA_2_2B | {"num_hidden_layers": layers}
    preset = dataclasses.replace(PRESETS["sana-sprint-0.6b"], text_encoder=config)
    student = build_preset(preset, f"gemma-{layers}", 0, LONG_PREFIX)
    student = keep_components(specialize_student(student, **choice), ["text_encoder"])
    target = load_target("trt")
    if precision != "bf16":
        rules = (Rule("*.embed_tokens", "w8a16"), Rule("*", precision)) if precision == "int4" else (Rule("*", precision),)
        student = quantize_student(student, "fp8", target, Recipe(case, rules, student.calibration_prompts[:PROMPTS]))
    start = time.monotonic()
    write_graph(make_graph(student.components["text_encoder"], "bf16", target.rewrites), folder / "model.onnx")
    exported = time.monotonic()
    files = TARGET.build(folder / "model.onnx", find_device(DEVICE), "tensorrt-rtx", lambda message: None)
    engine, table = files["engine"], files["kernels"]
    summary = price_kernels(parse_kernels(table.read_text()), find_device(DEVICE))
    found = {
        "export_s": round(exported - start, 1),
        "build_s": round(time.monotonic() - exported, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "graph_mb": round(sum(path.stat().st_size for path in folder.glob("model.onnx*")) / 1e6, 1),
        "engine_mb": round(engine.stat().st_size / 1e6, 1),
        "kernels": summary.kernels,
        "tflop": round(summary.flop / 1e12, 4),
        "priced_ms": round(summary.milliseconds, 3),
        "moved_gb": round(summary.bytes / 1e9, 3),
        "multiplying_kernels": dict(summary.by_dtype),
    }
    for path in folder.iterdir():
        path.unlink()  # a full-size case is gigabytes
    return found


def measure(case: str, layers: int, work: str) -> dict[str, Any]:
    """A case in a process of its own."""
    script = f"import json, full_size_text_encoder as f; print(json.dumps(f.run_case({case!r}, {layers}, {work!r})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case}, {layers} layers failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def extend(rows: dict[int, dict[str, Any]]) -> dict[str, float]:
    """Kernels, price and arithmetic of all layers, from two counts of them."""
    few, more = sorted(rows)[:2]
    each = {key: (rows[more][key] - rows[few][key]) / (more - few) for key in ("kernels", "priced_ms", "tflop")}
    return {key: round(rows[few][key] + (ALL_LAYERS - few) * step, 3) for key, step in each.items()}


def main() -> None:
    """Run the cases and write the table; cases measured before keep their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--case", choices=CASES, action="append")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "full_size_text_encoder.json"
    before = json.loads(path.read_text())["rows"] if path.is_file() else {}
    found: dict[str, Any] = {"command": " ".join(["python benchmarks/full_size_text_encoder.py", *sys.argv[1:]])}
    found |= {"machine": describe_machine(), "device": DEVICE, "rows": before}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as work:
        os.environ["SPRINT_EXPORT_CACHE"] = f"{work}/cache"
        for case in asked.case or CASES:
            rows = {layers: measure(case, layers, work) for layers in asked.layers}
            found["rows"][case] = before.get(case, {}) | {f"{layers} layers": row for layers, row in rows.items()}
            if len(rows) > 1:
                found["rows"][case][f"{ALL_LAYERS} layers, from these"] = extend(rows)
            print(case, found["rows"][case], flush=True)
            path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
