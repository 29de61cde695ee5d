"""What free height and width cost on ONNX Runtime's CPU: graphs with and without them, of one network with random weights.

    python benchmarks/dynamic_sizes.py transformer --layers 2
    python benchmarks/dynamic_sizes.py vae_decoder --layers 1 --pixels 512

All four graphs (onnx-fp32 and onnx-int8, each fixed and free) run in one process, interleaved, on the same noise at the size they
are made for; the least of the runs counts. `wide_ms` is the free graph at half the height and twice the width, which the fixed
one cannot draw. Export and measurement have a process each; `agree_db` is the free graph's signal to noise beside the fixed one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ort_nodes

from sprint_export.schema import ROLES
from sprint_export.validate.machine import describe_machine

PRECISIONS, SIZES = ("fp32", "int8"), ("fixed", "free")


def export(role: str, layers: int | None, pixels: int, folder: Path) -> None:
    """All four graphs, quantized ones calibrated on one prompt."""
    from sprint_export.export.to_onnx import write_component
    from sprint_export.quantize import quantize_student
    from sprint_export.registry import load_member
    from sprint_export.road import keep_components
    from sprint_export.schema import Options
    from sprint_export.specialize import specialize_student
    from sprint_export.students.presets import build_preset

    source = f"random:{ort_nodes.PRESET} {role} {layers} {pixels}"
    student = keep_components(specialize_student(build_preset(ort_nodes.shorten(role, layers, pixels), source, 0)), [role])
    student = dataclasses.replace(student, calibration_prompts=student.calibration_prompts[:1])
    target = load_member("target", "onnx").TARGET
    for precision in PRECISIONS:
        quantized = quantize_student(student, precision, target)
        freed = load_member("student", student.family).free_sizes(quantized)
        for size, chosen in zip(SIZES, (quantized, freed), strict=True):
            place = folder / precision / size
            place.mkdir(parents=True)
            write_component(chosen.components[role], target, precision, Options(dynamic=size == "free"), place)


def measure(folder: Path, runs: int, threads: int) -> dict[str, Any]:
    """Milliseconds of all graphs, and whether fixed and free agree."""
    names = [(precision, size) for precision in PRECISIONS for size in SIZES]
    sessions = {name: ort_nodes._open(folder.joinpath(*name), threads, profile=False) for name in names}
    own = ort_nodes._make_feeds(sessions["fp32", "fixed"])
    _, channels, height, width = own["latents"].shape
    noise = np.random.default_rng(1).standard_normal((1, channels, height // 2, width * 2), np.float32)
    least, wide, outputs = dict.fromkeys(names, float("inf")), dict.fromkeys(PRECISIONS, float("inf")), {}
    for _ in range(runs):
        for name, session in sessions.items():
            seconds, outputs[name] = _time(session, own)
            least[name] = min(least[name], seconds)
    for _ in range(max(runs // 2, 1)):
        for precision in PRECISIONS:
            wide[precision] = min(wide[precision], _time(sessions[precision, "free"], {**own, "latents": noise})[0])
    return {
        precision: {
            **{f"{size}_ms": round(least[precision, size] * 1e3, 1) for size in SIZES},
            "free_over_fixed": round(least[precision, "free"] / least[precision, "fixed"], 3),
            "wide_ms": round(wide[precision] * 1e3, 1),
            "agree_db": _compare(outputs[precision, "free"], outputs[precision, "fixed"]),
        }
        for precision in PRECISIONS
    }


def _time(session: Any, feeds: dict[str, Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    (output,) = session.run(None, feeds)
    return time.perf_counter() - start, output


def _compare(found: Any, wanted: Any) -> float:
    """Signal to noise in decibels; about 300 where they are the same bits."""
    noise = np.square(found.astype(np.float64) - wanted).mean()
    return round(float(10 * np.log10(np.square(wanted.astype(np.float64)).mean() / max(noise, 1e-30))), 1)


def main() -> None:
    """Export in a process of its own, measure in this one, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=[role for role in ROLES if role != "text_encoder"])
    parser.add_argument("--layers", type=int, help="default: all")
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="default: as many as there are cores")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        call = f"import dynamic_sizes, pathlib; dynamic_sizes.export({options.role!r}, {options.layers}, {options.pixels}, "
        script = f"{call}pathlib.Path({folder!r}))"
        subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=True)
        found = {
            "command": f"python benchmarks/dynamic_sizes.py {' '.join(sys.argv[1:])}",
            "machine": describe_machine(),
            "student": f"random:{ort_nodes.PRESET}",
            **measure(Path(folder), options.runs, options.threads),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"dynamic_sizes_{options.role}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
