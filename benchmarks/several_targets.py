"""Seconds of one command for several targets beside a command for each: python benchmarks/several_targets.py --count 4."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sprint_export.validate.machine import describe_machine

COMMAND = Path(sys.executable).with_name("sprint-export")
TARGETS = "trt-fp8,onnx-int8,coreml-int8,openvino-int8"


def time_commands(targets: list[str], asked: list[str]) -> dict[str, object]:
    """Wall and CPU seconds of the commands one after the other, from an empty cache that they share."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SPRINT_EXPORT_CACHE": f"{folder}/cache"}
        seconds, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
        for target in targets:
            start = time.monotonic()
            subprocess.run(
                [COMMAND, "-q", "--target", target, *asked], cwd=folder, env=environment, check=True, capture_output=True
            )
            seconds.append(round(time.monotonic() - start, 1))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"commands": targets, "seconds": seconds, "total_s": round(sum(seconds), 1), "cpu_s": round(cpu, 1)}


def main() -> None:
    """Print both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--count", type=int, help="validate with so many pictures; default: not at all")
    chosen = parser.parse_args()
    asked = ["--no-validate"] if chosen.count is None else ["--count", str(chosen.count)]
    found = {"machine": describe_machine(), "asked": asked, "one": time_commands([chosen.targets], asked)}
    print(json.dumps(found | {"each": time_commands(chosen.targets.split(","), asked)}, indent=1))


if __name__ == "__main__":
    main()
