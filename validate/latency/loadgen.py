"""MLPerf's single stream: LoadGen asks for one picture after the other, and estimates p90 by its early stopping.

LoadGen is MLCommons' own (the package mlcommons-loadgen); a picture is a query, its seed the sample's number. Early stopping
gives the least latency that the true p90 is below with 99 % confidence, of 64 queries or more; a run is ten minutes, as MLPerf's
rules ask for.
Source: mlcommons/inference, loadgen/early_stopping.cc; the keys of mlperf_log_detail.txt are LoadGen 6.0.17's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.errors import MachineError
from sprint_export.files import temporary_folder
from sprint_export.libraries import require
from sprint_export.nouns.report import Measurement
from sprint_export.validate.latency.rows import WHOLE
from sprint_export.validate.report import format_number

LIBRARY = "mlperf_loadgen"
MINUTES = 10.0
LEAST_QUERIES = 64  # early stopping takes
SAMPLES = 64  # seeds
POLL_SECONDS = 0.2
P90, MEAN, EARLY = "result_90.00_percentile_latency_ns", "result_mean_latency_ns", "early_stopping_latency_ss"


@dataclass(frozen=True)
class StreamResult:
    """What LoadGen found: milliseconds, queries, whether its own rules are met, its version."""

    p90_ms: float
    mean_ms: float
    early_stopping_ms: float | None
    queries: int
    is_valid: bool
    version: str


def run_single_stream(draw: Callable[[int], None], minutes: float | None = None, queries: int | None = None) -> StreamResult:
    """Have LoadGen ask `draw(seed)` for pictures.

    Args:
        draw: draws one and returns once it is there.
        minutes: at least; default: MINUTES.
        queries: at least; default: LEAST_QUERIES.

    Raises:
        MachineError: LoadGen is not installed, or ended without a result. What `draw` raises is raised again.
    """
    loadgen: Any = require(LIBRARY, "latency")
    failures: list[BaseException] = []

    def issue(samples: Any) -> None:
        for sample in samples:
            if not failures:
                try:
                    draw(int(sample.index))
                except BaseException as error:  # LoadGen's own thread: it goes to the one that waits
                    failures.append(error)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = loadgen.TestScenario.SingleStream, loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(60_000 * (MINUTES if minutes is None else minutes))
    settings.min_query_count = LEAST_QUERIES if queries is None else queries
    with temporary_folder() as folder:
        _start(loadgen, issue, settings, folder, failures)
        return _read_result(folder)


def _start(loadgen: Any, issue: Callable[[Any], None], settings: Any, folder: Path, failures: list[BaseException]) -> None:
    """Run LoadGen in a thread of its own, so that this one hears Ctrl-C; it is left behind where drawing failed."""
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    log = loadgen.LogSettings()
    log.log_output, log.enable_trace = output, False
    tested = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(SAMPLES, SAMPLES, lambda _: None, lambda _: None)
    thread = threading.Thread(
        target=loadgen.StartTestWithLogSettings, args=(tested, library, settings, log), daemon=True, name="loadgen"
    )
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        if failures:
            raise failures[0]
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(tested)
    if failures:
        raise failures[0]


def _read_result(folder: Path) -> StreamResult:
    """From its detailed log, a JSON object a line behind a mark."""
    found: dict[str, Any] = {}
    for line in (folder / "mlperf_log_detail.txt").read_text("utf-8").splitlines():
        event = json.loads(line.partition(" ")[2])
        found[event["key"]] = event["value"]
    if P90 not in found:
        raise MachineError("LoadGen ended without a result; run it again, or leave --protocol out")
    early = found.get(EARLY)
    return StreamResult(
        found[P90] / 1e6,
        found[MEAN] / 1e6,
        early / 1e6 if early else None,
        int(found["result_query_count"]),
        found["result_validity"] == "VALID",
        str(found.get("loadgen_version", "")),
    )


def describe_stream(result: StreamResult) -> list[Measurement]:
    """Rows of what LoadGen says itself, of all queries."""
    valid = "valid by LoadGen's rules" if result.is_valid else "NOT valid by LoadGen's rules"
    note = f"LoadGen {result.version.split(' ')[0]}, single stream, {result.queries} queries, {valid}"
    rows = [Measurement("latency_mean_ms", result.mean_ms, "ms", WHOLE, note=note)]
    if result.early_stopping_ms is not None:
        said = f"{note}: p90 is below this with 99 % confidence; p90 of all {format_number(result.p90_ms)} ms"
        rows.append(Measurement("latency_p90_early_stopping_ms", result.early_stopping_ms, "ms", WHOLE, note=said))
    return rows
