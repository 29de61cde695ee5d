"""A bundle timed: rows of every network, cold starts in fresh processes, conditions, gates, and the JSON that others read."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.export.bundle import read_bundle
from sprint_export.progress import Step
from sprint_export.validate.latency import bench_bundle, time_bundle
from sprint_export.validate.latency.bundle_side import Where
from sprint_export.validate.latency.cold_start import start_cold
from sprint_export.validate.latency.results import describe_bench
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.measure import time_components
from tests.bundles import shared_bundle
from tests.tree import ROLES

NAMES = (*ROLES, "whole picture")
PERCENTS = (50, 90, 99)


def test_the_machine_is_named_with_its_cores_and_system() -> None:
    text = describe_machine()
    assert text.endswith(f", {os.cpu_count()} cores, {platform.system()}")
    assert len(text.split(",")[0]) >= 3


def test_every_component_and_the_whole_picture_are_timed(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: list[tuple[Step, int, int]] = []
    folder = shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")
    report = time_bundle(folder, runs=3, progress=lambda *step: seen.append(step))
    found = {(row.component, row.metric): row.value for row in report.rows}
    assert set(found) == {(name, f"latency_p{percent}_ms") for name in NAMES for percent in PERCENTS}
    for name in NAMES:
        p50, p90, p99 = (found[name, f"latency_p{percent}_ms"] for percent in PERCENTS)
        assert 0 < p50 <= p90 <= p99
    assert (report.prompts, report.passed, report.target) == (3, True, "trt-fp8")
    assert "fp32-compute shadow" in report.runtime
    assert [step for step in seen if step[0] == Step("timing")] == [(Step("timing"), i, 3) for i in range(4)]


def test_a_bench_says_its_conditions_and_starts_fresh_processes(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")
    bench = bench_bundle(folder, runs=2, warm_up=1, cold_starts=1, gates=["latency_p50_ms<=1e-9", "cold_start_ms<=1e9"])
    value = json.loads(json.dumps(describe_bench(bench), allow_nan=False))
    rows = {(row["component"], row["metric"]): row for row in value["rows"]}
    assert all(rows[name, "latency_p50_ms"]["verdict"] == "not met" for name in NAMES)
    assert rows["whole picture", "cold_start_ms"]["verdict"] == "met"
    assert (value["verdict"], value["passed"]) == ("not met", False)
    cold, opened, first = (rows["whole picture", f"{name}_ms"]["value"] for name in ("cold_start", "open", "first_picture"))
    assert cold > opened + first
    assert rows["whole picture", "peak_memory_mb"]["value"] > 20
    assert value["identity"] == read_bundle(folder).identity
    conditions = value["bench"]
    assert (conditions["protocol"], conditions["runs"], conditions["warm_up"], conditions["batch"]) == ("own", 2, 1, 1)
    assert conditions["replayed"] is False
    assert conditions["launches"].startswith("not applicable")
    assert conditions["cold_starts"] == [pytest.approx(cold / 1e3, abs=1e-4)]
    assert conditions["processors"] >= 1
    assert conditions["device"] in value["machine"]


def test_a_process_that_cannot_draw_is_a_message_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a fresh process could not draw with .*: .*is not a bundle"):
        start_cold(tmp_path, Where(), "a red circle")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runs": 0}, "runs=0: expected at least 1"),
        ({"runs": 1, "minutes": 1.0}, "runs=1 and minutes=1: expected one of them"),
        ({"minutes": 0.0}, "minutes=0: expected more than 0, at most a day"),
        ({"warm_up": -1}, "warm_up=-1: expected 0 or more"),
        ({"gates": ["psnr_db>=30"]}, "unknown gate metric of a bench 'psnr_db'; choose from: cold_start_ms,"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_bundle_is_read(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bench_bundle(tmp_path, **asked)


def test_percentiles_leave_the_first_call_out() -> None:
    rows = time_components({"transformer": [9.0, 0.001, 0.002, 0.003]}, {"transformer": [0.5]})
    found = {row.metric: row.value for row in rows}
    assert found["latency_p50_ms"] == pytest.approx(2.0)
    assert found["latency_p90_ms"] == pytest.approx(2.8)
    assert found["pytorch_latency_p50_ms"] == pytest.approx(500.0), "a single call is better than none"
