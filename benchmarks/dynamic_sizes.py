"""What free height and width cost on a CPU: files with and without them, of one network with random weights.

    python benchmarks/dynamic_sizes.py transformer --layers 2
    python benchmarks/dynamic_sizes.py vae_decoder --layers 1 --pixels 512 --target openvino

All four files (float and INT8, each fixed and free) run in one process, interleaved, on the same noise at the size they are made
for; the least of the runs counts. `wide_ms` is the free file at half the height and twice the width, which the fixed one cannot
draw, `wide_first_ms` its first run there. `agree_db` is its signal to noise beside the fixed one, about 300 where they are the
same bits. Export and measurement have a process each.
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

from sprint_export.export.exporter import load_exporter
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.registry import load_target
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.students.family import load_family
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp16", "int8")}
SIZES = ("fixed", "free")
RECORD = "record.json"


def export(role: str, layers: int | None, pixels: int, name: str, folder: Path) -> None:
    """All four files, quantized ones calibrated on one prompt."""
    from sprint_export.conversion import keep_components
    from sprint_export.devices import find_device
    from sprint_export.options import complete_options
    from sprint_export.quantize import quantize_student
    from sprint_export.specialize import specialize_student
    from sprint_export.students.sana_sprint.presets import build_preset

    source = f"random:{ort_nodes.PRESET} {role} {layers} {pixels}"
    student = keep_components(specialize_student(build_preset(ort_nodes.shorten(role, layers, pixels), source, 0)), [role])
    student = dataclasses.replace(student, calibration_prompts=student.calibration_prompts[:1])
    target = load_target(name)
    exporter = load_exporter(target)
    for precision in PRECISIONS[name]:
        quantized = quantize_student(student, precision, target)
        freed = load_family(student.family).free_sizes(quantized)
        for size, chosen in zip(SIZES, (quantized, freed), strict=True):
            place = folder / precision / size
            place.mkdir(parents=True)
            options = complete_options(target, precision, find_device("cpu"), {"dynamic": size == "free"})
            record = exporter.write_component(chosen.components[role], target, precision, options, place)
            (place / RECORD).write_text(json.dumps(to_json(record)))


def measure(folder: Path, name: str, runs: int) -> dict[str, Any]:
    """Milliseconds of all files, and whether fixed and free agree."""
    files = [(precision, size) for precision in PRECISIONS[name] for size in SIZES]
    sessions = {file: _open(folder.joinpath(*file), name) for file in files}
    own = _make_feeds(folder.joinpath(*files[0]))
    least, outputs = dict.fromkeys(files, float("inf")), {}
    for _ in range(runs):
        for file, session in sessions.items():
            seconds, outputs[file] = _time(session, own)
            least[file] = min(least[file], seconds)
    found = {}
    for precision in PRECISIONS[name]:
        fixed, free = (least[precision, size] for size in SIZES)
        wide = [_time(sessions[precision, "free"], _widen(own))[0] for _ in range(max(runs // 2, 3))]
        found[precision] = {
            "fixed_ms": round(fixed * 1e3, 1),
            "free_ms": round(free * 1e3, 1),
            "free_over_fixed": round(free / fixed, 3),
            "wide_ms": round(min(wide) * 1e3, 1),
            "wide_first_ms": round(wide[0] * 1e3, 1),
            "agree_db": _compare(outputs[precision, "free"], outputs[precision, "fixed"]),
        }
    return found


def _read_record(folder: Path) -> ComponentRecord:
    return from_json(ComponentRecord, json.loads((folder / RECORD).read_text()))


def _open(folder: Path, name: str) -> Any:
    record = _read_record(folder)
    return load_runtime(name).open_session(folder / record.parts[0].graph, record.inputs, record.outputs)


def _make_feeds(folder: Path) -> dict[str, Any]:
    """Unit noise for floats; every text row valid."""
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.standard_normal(spec.shape, np.float32) if spec.dtype == "float32" else np.ones(spec.shape, np.int64)  # type: ignore[arg-type]  # all are ints
        for spec in _read_record(folder).inputs
    }


def _widen(feeds: dict[str, Any]) -> dict[str, Any]:
    _, channels, height, width = feeds["latents"].shape
    noise = np.random.default_rng(1).standard_normal((1, channels, height // 2, width * 2), np.float32)
    return feeds | {"latents": noise}


def _time(session: Any, feeds: dict[str, Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    (output,) = session.run(feeds).values()
    return time.perf_counter() - start, output


def _compare(found: Any, wanted: Any) -> float:
    """Signal to noise in decibels."""
    noise = np.square(found.astype(np.float64) - wanted).mean()
    return round(float(10 * np.log10(np.square(wanted.astype(np.float64)).mean() / max(noise, 1e-30))), 1)


def main() -> None:
    """Export in a process of its own, measure in this one, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=[role for role in ROLES if role != "text_encoder"])
    parser.add_argument("--target", choices=PRECISIONS, default="onnx")
    parser.add_argument("--layers", type=int, help="default: all")
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        call = f"{options.role!r}, {options.layers}, {options.pixels}, {options.target!r}, pathlib.Path({folder!r})"
        script = f"import dynamic_sizes, pathlib; dynamic_sizes.export({call})"
        subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=True)
        found = {
            "command": f"python benchmarks/dynamic_sizes.py {' '.join(sys.argv[1:])}",
            "machine": describe_machine(),
            "student": f"random:{ort_nodes.PRESET}",
            **measure(Path(folder), options.target, options.runs),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"dynamic_sizes_{options.target}_{options.role}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
