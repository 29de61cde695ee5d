"""Every target on the embedded student, beside PyTorch: quality, adherence, size, price.

python benchmarks/sprint_tiny_targets.py --count 128 --out benchmarks/results
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
           "adherence_reference_percent", "quantized_share")  # fmt: skip
SUMS = ("disk_mb", "engine_mb", "kernels", "priced_ms", "latency_p50_ms", "pytorch_latency_p50_ms")


def measure(target: str, count: int, folder: Path) -> dict[str, float]:
    """Convert and validate; whole-picture rows as they are, component rows summed up."""
    bundle = convert("sprint-tiny", target, folder / target, count=count)
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
    options = parser.parse_args()
    found: dict[str, object] = {
        "command": f"python benchmarks/sprint_tiny_targets.py --count {options.count}",
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        for target in list_targets():
            found[target] = measure(target, options.count, Path(folder))
            print(target, found[target], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sprint_tiny_targets.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
