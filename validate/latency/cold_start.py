"""Cold starts: fresh processes that import the package, open a bundle and draw; what each held in memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sprint_export.errors import MachineError
from sprint_export.nouns.report import Measurement
from sprint_export.progress import Progress, Step
from sprint_export.validate.latency.bundle_side import Where
from sprint_export.validate.latency.rows import WHOLE
from sprint_export.validate.report import format_number

STARTING = Step("cold start")
MOST_STARTS, MOST_SECONDS = 3, 20.0
PROGRAM = Path(__file__).with_name("fresh_process.py")
MARK = "sprint-export-bench "
MOST_SAID = 1 << 20  # bytes of what a process complained of


@dataclass(frozen=True)
class ColdStart:
    """A fresh process: seconds from its start to its first picture, and of its parts; what it did after that (fresh_round.py).

    Args:
        total_s: from its start to its first picture.
        open_s: of it, opening the bundle.
        first_picture_s: of it, the first picture.
        peak_memory_mb: the most that it held; None where the system does not say.
        p50_s: by network, of pictures after the first that were not disturbed.
    """

    total_s: float
    open_s: float
    first_picture_s: float
    peak_memory_mb: float | None
    p50_s: Mapping[str, float]


def start_cold(folder: Path, where: Where, prompt: str) -> ColdStart:
    """Run one fresh process.

    Raises:
        MachineError: it ended without a picture; with what it said last.
    """
    asked = {"folder": str(folder.resolve()), **asdict(where), "prompt": prompt}
    command = [sys.executable, "-P", str(PROGRAM), json.dumps(asked)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as complaints:  # a pipe that nobody reads meanwhile would stop a process that says much
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8") as process:
            try:
                first = _read_line(process)
                total = time.perf_counter() - start
                last = _read_line(process)
                process.communicate()
            except BaseException:
                process.kill()
                raise
        complaints.seek(0)
        said = complaints.read(MOST_SAID).decode("utf-8", "replace")
    if first is None or last is None:
        lines = [line for line in said.splitlines() if line.strip()]
        raise MachineError(f"a fresh process could not draw with {folder}: {lines[-1][:300] if lines else 'it said nothing'}")
    return ColdStart(total, first["open_s"], first["first_picture_s"], last["peak_memory_mb"], last["p50_s"])


def _read_line(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """The next line that is the program's own; None where it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return found
    return None


def start_several(start: Callable[[], ColdStart], count: int | None, progress: Progress) -> list[ColdStart]:
    """So many cold starts; by default up to MOST_STARTS, as long as they take no more than MOST_SECONDS."""
    found: list[ColdStart] = []
    wanted = MOST_STARTS if count is None else count
    while len(found) < wanted:
        spent = sum(each.total_s for each in found)
        if count is None and found and spent + spent / len(found) > MOST_SECONDS:
            break
        progress(STARTING, len(found), wanted)
        found.append(start())
    progress(STARTING, len(found), len(found))
    return found


def describe_starts(found: list[ColdStart]) -> list[Measurement]:
    """Rows of the medians; the notes have the least and the most."""
    if not found:
        return []

    def row(metric: str, values: list[float], note: str) -> Measurement:
        several = (
            f"; median of {len(values)}: {format_number(min(values))} to {format_number(max(values))}" if len(values) > 1 else ""
        )
        return Measurement(metric, statistics.median(values), "ms", WHOLE, note=note + several)

    cached = "files may lie in the system's cache"
    rows = [
        row("cold_start_ms", [1e3 * each.total_s for each in found], f"a fresh process: import, open, first picture; {cached}"),
        row("open_ms", [1e3 * each.open_s for each in found], "of it, open_bundle, which compares the files with their sha256"),
        row("first_picture_ms", [1e3 * each.first_picture_s for each in found], "of it, the first picture"),
    ]
    peaks = [each.peak_memory_mb for each in found if each.peak_memory_mb is not None]
    if peaks:
        note = "the most that a fresh process held, several pictures drawn"
        rows.append(Measurement("peak_memory_mb", max(peaks), "MB", WHOLE, note=note))
    return rows
