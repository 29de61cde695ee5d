"""What a validation takes at a student's real shapes, what a killed one loses, and what the next target need not draw again.

    python benchmarks/validation_passes.py --out benchmarks/results/validation_passes.json

A student of the published widths, cut so that it runs in minutes: 2 layers of text encoder, 2 blocks of transformer, the whole
decoder at 256 px, random weights. Rows are processor seconds by stage, which a busy machine changes little: drawn for the first
time, killed in the middle of a stage and run again (`lost` is what both took together beyond the first), and a second target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

CUT = {"text_encoder": {"num_hidden_layers": 2, "vocab_size": 4096}, "transformer": {"num_layers": 2, "sample_size": 8}}
STAGES = {"PyTorch reference": 6, "exported": 6, "torch, rounded": 4}  # reports of progress after which it is killed


def make_student() -> Any:
    """The cut student."""
    import dataclasses

    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, build_preset
    from sprint_export.students.sana_sprint.published import PRESETS

    whole = PRESETS["sana-sprint-0.6b"]
    parts = {role: dict(getattr(whole, role)) | changed for role, changed in CUT.items()}
    return build_preset(dataclasses.replace(whole, **parts), "random:cut", 0, LONG_PREFIX)


class Stopwatch:
    """Processor seconds by stage; raises KeyboardInterrupt where it is told to."""

    def __init__(self, kill: tuple[str, int] | None = None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._kill, self._last, self._stage, self._seen = kill, time.process_time(), "before", 0

    def __call__(self, step: Any, done: int, total: int) -> None:
        now = time.process_time()
        self.seconds[self._stage] += now - self._last
        self._last, self._stage = now, step.stage
        if self._kill is not None and step.stage == self._kill[0]:
            self._seen += 1
            if self._seen > self._kill[1]:
                raise KeyboardInterrupt

    def close(self) -> dict[str, float]:
        """Rounded, with the sum."""
        self.seconds[self._stage] += time.process_time() - self._last
        return {name: round(value, 1) for name, value in self.seconds.items()} | {"all": round(sum(self.seconds.values()), 1)}


def time_validation(bundle: Path, student: Any, count: int, kill: tuple[str, int] | None = None) -> dict[str, float]:
    """Seconds by stage of one validation."""
    from sprint_export.validate import validate_bundle

    watch = Stopwatch(kill)
    with contextlib.suppress(KeyboardInterrupt):
        validate_bundle(bundle, student, count=count, progress=watch)
    return watch.close()


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where bundles are kept between runs; default: a temporary folder")
    parser.add_argument("--targets", default="trt-fp8,onnx-int8")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--no-kill", action="store_true", help="leave the killed runs out")
    asked = parser.parse_args()
    from sprint_export.conversion import convert
    from sprint_export.validate.machine import describe_machine

    student, rows = make_student(), dict[str, Any]()
    prompts = list(student.validation_prompts[:1])
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)

        def show(name: str, row: dict[str, float]) -> None:
            rows[name] = row
            print(name, row, flush=True)

        def start(name: str) -> None:
            os.environ["SPRINT_EXPORT_CACHE"] = f"{temporary}/{name}"

        for target in asked.targets.split(","):
            if not (folder / target).exists():
                start("convert")
                convert(student, target, folder / target, prompts=prompts, validate=False)
        first, *others = asked.targets.split(",")
        start("whole")
        show(first, time_validation(folder / first, student, asked.count))
        show(f"{first} again", time_validation(folder / first, student, asked.count))
        for target in others:
            show(f"{target} after it", time_validation(folder / target, student, asked.count))
        for stage, reports in () if asked.no_kill else STAGES.items():
            start(stage)
            before = time_validation(folder / first, student, asked.count, (stage, reports))
            after = time_validation(folder / first, student, asked.count)
            show(f"{first} killed in {stage}", after | {"lost": round(before["all"] + after["all"] - rows[first]["all"], 1)})
    if asked.out:
        found = {"machine": describe_machine(), "count": asked.count, "seconds": rows}
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
