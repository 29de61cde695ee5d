"""Every target on an embedded student, beside PyTorch: quality, adherence, size, price.

python benchmarks/sprint_tiny_targets.py --count 128 --out benchmarks/results
python benchmarks/sprint_tiny_targets.py --count 128 --student twinflow-tiny --targets trt-fp8,trt-int8,onnx-int8
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from sprint_export.conversion import convert
from sprint_export.run_checks import list_targets
from sprint_export.validate.machine import describe_machine

COLUMNS = ("psnr_db", "psnr_worst_db", "ssim", "recipe_image_psnr_db", "converter_image_psnr_db", "adherence_percent",
           "adherence_reference_percent", "flips", "edges_obeyed_percent", "edges_obeyed_reference_percent",
           "quantized_share")  # fmt: skip
SUMS = ("disk_mb", "engine_mb", "kernels", "priced_ms", "latency_p50_ms", "pytorch_latency_p50_ms")


def measure(student: str, target: str, count: int, folder: Path) -> dict[str, float]:
    """Convert and validate; whole-picture rows as they are, component rows summed up."""
    bundle = convert(student, target, folder / target, count=count)
    rows = json.loads((bundle.folder / "report.json").read_text())["rows"]
    found = {row["metric"]: row["value"] for row in rows if row["metric"] in COLUMNS}
    for metric in SUMS:
        values = [row["value"] for row in rows if row["metric"] == metric]
        if values:
            found[f"{metric}_sum"] = sum(values)
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    """Run all targets and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--student", default="sprint-tiny", help="the name of one that ships")
    parser.add_argument("--targets", default=",".join(list_targets()))
    options = parser.parse_args()
    found: dict[str, object] = {
        "command": f"python benchmarks/sprint_tiny_targets.py --count {options.count} --student {options.student}",
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        for target in options.targets.split(","):
            found[target] = measure(options.student, target, options.count, Path(folder))
            print(target, found[target], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.student.replace('-', '_')}_targets.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
