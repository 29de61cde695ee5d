"""Seconds of a validation on a local Ray cluster of one worker and of two, one with a worker killed, beside one process.

    python benchmarks/ray_workers.py --count 512 --out benchmarks/results/ray_workers.json

Every row draws the same pictures of sprint-tiny with an empty cache. `figures_equal` compares all rows but seconds, and all rows
of pictures, with those of one process. Ray's start, and that of its workers, is in the seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sprint_export.conversion import convert
from sprint_export.nouns.report import Report
from sprint_export.progress import Step
from sprint_export.validate import validate_bundle
from sprint_export.validate.cluster.pool import DRAWING, LOCAL
from sprint_export.validate.machine import describe_machine


def describe(report: Report) -> dict[str, Any]:
    """All that is no second."""
    return {"rows": [row for row in report.rows if "latency" not in row.metric], "pictures": report.pictures}


def validate(bundle: Path, count: int, workers: int, kills: bool) -> tuple[float, Report]:
    """Seconds and report; with workers on a cluster of as many processors."""
    asked: dict[str, Any] = {"count": count}
    if workers:
        import ray

        ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
        asked["ray"] = LOCAL
    seen: list[int] = []

    def watch(step: Step, done: int, total: int) -> None:
        if kills and step == DRAWING and done and not seen:
            seen.append(next(list_workers()))
            os.kill(seen[0], signal.SIGKILL)

    with tempfile.TemporaryDirectory() as cache:
        os.environ["SPRINT_EXPORT_CACHE"] = cache
        start = time.monotonic()
        report = validate_bundle(bundle, progress=watch, **asked)
        seconds = time.monotonic() - start
    if workers:
        ray.shutdown()
    return round(seconds, 1), report


def list_workers() -> Any:
    """Processes that are actors of ours."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::Worker" in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def main() -> None:
    """Measure all rows and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/ray_workers.py", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle = convert("sprint-tiny", "onnx-int8", Path(folder) / "bundle", validate=False).folder
        alone: Report | None = None
        for name, workers, kills in (
            ("one process", 0, False),
            ("1 worker", 1, False),
            ("2 workers", 2, False),
            ("2 workers, one killed", 2, True),
        ):
            seconds, report = validate(bundle, chosen.count, workers, kills)
            alone = alone or report
            found[name] = {"seconds": seconds, "load": os.getloadavg()[0], "figures_equal": describe(report) == describe(alone)}
            print(name, found[name], flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
