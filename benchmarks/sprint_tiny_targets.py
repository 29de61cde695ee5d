"""Every target on an embedded student, beside PyTorch: quality, adherence, size, price.

python benchmarks/sprint_tiny_targets.py --count 128 --out benchmarks/results
python benchmarks/sprint_tiny_targets.py --count 128 --student twinflow-tiny --targets trt-fp8,trt-int8,onnx-int8
python benchmarks/sprint_tiny_targets.py --count 512 --noises 4 --student tbcm-tiny --targets onnx-int8    # 2,048 pairs

`drop_within_a_point` says whether the interval of adherence_drop_points (reference minus exported, 95 %) ends below 1 point:
"yes", "no" where it begins above, else "not decided".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from sprint_export.conversion import convert
from sprint_export.run_checks import list_targets
from sprint_export.students import load_student
from sprint_export.validate import validate_bundle
from sprint_export.validate.machine import describe_machine

COLUMNS = ("psnr_db", "psnr_worst_db", "ssim", "recipe_image_psnr_db", "converter_image_psnr_db", "adherence_percent",
           "adherence_reference_percent", "flips", "edges_obeyed_percent", "edges_obeyed_reference_percent",
           "quantized_share")  # fmt: skip
SUMS = ("disk_mb", "engine_mb", "kernels", "priced_ms", "latency_p50_ms", "pytorch_latency_p50_ms")


def measure(student: str, target: str, count: int, noises: int, folder: Path) -> dict[str, object]:
    """Convert and validate; whole-picture rows as they are, component rows summed up."""
    loaded = load_student(student)
    bundle = convert(student, target, folder / target, validate=False)
    prompts = list(loaded.validation_prompts[:count]) * noises  # noise depends on the place, so each caption has several
    validate_bundle(bundle, loaded, prompts)
    rows = json.loads((bundle.folder / "report.json").read_text())["rows"]
    found: dict[str, float] = {row["metric"]: row["value"] for row in rows if row["metric"] in COLUMNS}
    drop = next(row for row in rows if row["metric"] == "adherence_drop_points")
    low, high = drop["interval"]
    verdict = "yes" if high <= 1 else "no" if low > 1 else "not decided"
    for metric in SUMS:
        values = [row["value"] for row in rows if row["metric"] == metric]
        if values:
            found[f"{metric}_sum"] = sum(values)
    rounded = {name: round(value, 4) for name, value in found.items()}
    paired = {"adherence_drop_points": [round(value, 3) for value in (drop["value"], low, high)], "pairs": drop["note"]}
    return {"pictures": len(prompts), **rounded, **paired, "drop_within_a_point": verdict}


def main() -> None:
    """Run all targets and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--noises", type=int, default=1, help="of each caption")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--student", default="sprint-tiny", help="the name of one that ships")
    parser.add_argument("--targets", default=",".join(list_targets()))
    options = parser.parse_args()
    found: dict[str, object] = {
        "command": " ".join(["python", "benchmarks/sprint_tiny_targets.py", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        for target in options.targets.split(","):
            found[target] = measure(options.student, target, options.count, options.noises, Path(folder))
            print(target, found[target], flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            name = f"{options.student.replace('-', '_')}_targets{'' if options.noises == 1 else '_paired'}.json"
            (options.out / name).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
