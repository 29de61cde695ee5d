"""Every precision of onnx-* on the small twins of the large families: what the exported graphs draw beside PyTorch.

    python benchmarks/twin_targets.py --out benchmarks/results          # TwinFlow-Qwen-Image and TwinFlow-Z-Image-Turbo

Twins have two layers and random weights: a picture's dB says what rounding and export do to such a network, not what a trained
one loses. `psnr_db` is beside the stock classes in float32, `converter` beside torch with the same rounding, worst network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sprint_export.conversion import convert
from sprint_export.registry import load_target
from sprint_export.students.family import load_family
from sprint_export.validate.machine import describe_machine

FAMILIES = ("twinflow_qwen", "twinflow_z")


def measure(name: str, target: str, folder: Path, count: int, steps: int) -> dict[str, Any]:
    """Convert a twin and read its report."""
    start = time.process_time()
    convert(load_family(name).tiny(), target, folder, count=count, steps=steps, gates=())
    rows = json.loads((folder / "report.json").read_text())["rows"]
    whole = {row["metric"]: row["value"] for row in rows if not row["component"]}
    converter = {
        row["component"]: round(row["value"], 1) for row in rows if row["metric"] == "converter_psnr_db" and row["component"]
    }
    found = {
        metric: round(whole[metric], 2) for metric in ("psnr_db", "psnr_worst_db", "recipe_image_psnr_db") if metric in whole
    }
    share = round(whole.get("quantized_share", 0.0), 3)
    return {
        **found,
        "converter_psnr_db": converter,
        "quantized_share": share,
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def main() -> None:
    """Measure and write the table after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    found: dict[str, Any] = {
        "command": " ".join(["python benchmarks/twin_targets.py", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    for name in FAMILIES:
        for precision in load_target("onnx").precisions:
            with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
                row = measure(name, f"onnx-{precision}", Path(folder) / "bundle", options.count, options.steps)
            found.setdefault(name, {})[f"onnx-{precision}"] = row
            print(name, precision, row, flush=True)
            (options.out / "twin_targets.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
