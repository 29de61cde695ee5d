"""What `--drop-unpaid` changes: a student with and without it, priced milliseconds, megabytes, PSNR and seconds.

    python benchmarks/unpaid_layers.py trt-fp8 trt-int8 --out benchmarks/results/unpaid_layers.json

Priced for the target's default device by the kernel tables of engines that are built here; nothing runs on a GPU. PSNR is of the
exported graphs against PyTorch float32 on `--count` pictures. What another target's run has written to `--out` stays.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import REPORT
from sprint_export.conversion import convert
from sprint_export.progress import Step

SUMMED = ("priced_ms", "kernels", "engine_mb", "moved_mb")  # over the networks
WHOLE = ("psnr_db", "psnr_worst_db", "quantized_share")


class Clock:
    """Between the first and the last word of the stage that prices layers."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def tell(self, step: Step, done: int, total: int) -> None:
        """Note when that stage spoke."""
        if step.stage == "pricing layers":
            self.told.append((time.perf_counter(), time.process_time()))

    def read(self) -> dict[str, float]:
        """Seconds, and those of processors; 0 where the stage did not run."""
        first, last = (self.told[0], self.told[-1]) if self.told else ((0.0, 0.0), (0.0, 0.0))
        names = ("pricing_seconds", "pricing_processor_seconds")
        return {name: round(after - before, 1) for name, before, after in zip(names, first, last, strict=True)}


def measure(student: str, target: str, drops: bool, count: int) -> dict[str, Any]:
    """One bundle's rows, with its verdict."""
    clock, said = Clock(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bundle = convert(
            student, target, Path(folder) / "bundle", drop_unpaid=drops, count=count, progress=clock.tell, say=said.append
        )
        report = json.loads((bundle.folder / REPORT).read_text("utf-8"))
    rows = report["rows"]
    found: dict[str, Any] = {
        name: {"sum": sum(row["value"] for row in rows if row["metric"] == name)}
        | {row["component"]: row["value"] for row in rows if row["metric"] == name}
        for name in SUMMED
    }
    for row in rows:
        if row["metric"] in WHOLE and not row["component"]:
            found[row["metric"]] = {"value": row["value"], "interval": row.get("interval"), "verdict": row.get("verdict")}
        if row["metric"] == "unpaid_layers":
            found["unpaid_layers"] = {"value": row["value"], "note": row["note"]}
    found |= {"seconds": round(time.perf_counter() - start, 1), **clock.read()}
    return found | {"said": said, "not_met": [row["metric"] for row in rows if row.get("verdict") == "not met"]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--student", default="sprint-tiny")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for target in asked.targets:
        found = {}
        for name, drops in (("without", False), ("with", True)):
            found[name] = measure(asked.student, target, drops, asked.count)
            print(json.dumps({target: {name: found[name]}}, indent=1), flush=True)
        before = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"targets": {}}
        before["targets"][target] = found
        before |= {"command": f"python {' '.join(sys.argv)}", "student": asked.student, "count": asked.count}
        before["load"] = [round(each, 1) for each in os.getloadavg()]
        asked.out.write_text(json.dumps(before, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
