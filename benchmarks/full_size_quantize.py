"""What quantizing SANA-Sprint 0.6B's transformer at 1024 px takes: seconds and peak memory, random weights.

    python benchmarks/full_size_quantize.py --out benchmarks/results

Calibration streams weights, so a deeper network should take no more memory for them: 4, 14 and 28 layers say whether that is so.
What grows with depth are the records (256 bytes a channel of every layer's input). Then the whole is quantized from its
records, without and with smoothing and bias correction. Each phase has a process of its own; its peak holds the interpreter and
libraries, about 0.6 GB, which `import` shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sprint_export.validate.machine import describe_machine

PRESET = "sana-sprint-0.6b"
PROMPTS = 4
FULL = 28


def _student(layers: int) -> Any:
    from sprint_export.conversion import keep_components
    from sprint_export.specialize import specialize_student
    from sprint_export.students.sana_sprint.presets import build_preset
    from sprint_export.students.sana_sprint.published import PRESETS

    preset = PRESETS[PRESET]
    preset = dataclasses.replace(preset, transformer={**preset.transformer, "num_layers": layers})
    return keep_components(specialize_student(build_preset(preset, f"random:{PRESET}, {layers} layers", 0)), ["transformer"])


def load() -> None:
    """Libraries and the handles of a student, no weights."""
    _student(FULL)


def calibrate(layers: int) -> None:
    """Watch a few prompts."""
    from sprint_export.quantize.measure.calibrate import calibrate as watch

    student = _student(layers)
    watch(student, student.calibration_prompts[:PROMPTS], 1)


def quantize(smooth: float, correct_bias: bool) -> None:
    """From records to ranges, smoothed weights and corrected biases, for trt-int8."""
    from sprint_export.quantize import quantize_student
    from sprint_export.quantize.recipes import default_recipe
    from sprint_export.registry import load_target

    student, target = _student(FULL), load_target("trt")
    recipe = dataclasses.replace(default_recipe("int8", student, target), prompts=student.calibration_prompts[:PROMPTS])
    quantize_student(student, "int8", target, dataclasses.replace(recipe, smooth=smooth, correct_bias=correct_bias))


PHASES: dict[str, Callable[[], None]] = {
    "import": load,
    "calibrate 4 layers": lambda: calibrate(4),
    "calibrate 14 layers": lambda: calibrate(14),
    f"calibrate {FULL} layers": lambda: calibrate(FULL),
    "quantize": lambda: quantize(0.0, False),
    "quantize, smooth": lambda: quantize(0.5, False),
    "quantize, smooth, biases": lambda: quantize(0.5, True),
}


def measure(phase: str) -> dict[str, float]:
    """Seconds and peak gigabytes of one phase (imports included)."""
    script = (
        f"import resource, full_size_quantize as f; f.PHASES[{phase!r}]();"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{phase} failed:\n{done.stderr[-3000:]}")
    peak = float(done.stdout.strip().splitlines()[-1]) * 1024 / 1e9
    return {"seconds": round(time.monotonic() - start, 1), "peak_gb": round(peak, 2)}


def main() -> None:
    """Run all phases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    found: dict[str, Any] = {
        "command": "python benchmarks/full_size_quantize.py",
        "machine": describe_machine(),
        "student": f"random:{PRESET}, transformer, {PROMPTS} prompts",
    }
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        os.environ["SPRINT_EXPORT_CACHE"] = folder
        for phase in PHASES:
            found[phase] = measure(phase)
            print(phase, found[phase], flush=True)
        found["records_mb"] = round(max(p.stat().st_size for p in Path(folder).rglob("*.safetensors")) / 1e6, 1)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "full_size_quantize.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
