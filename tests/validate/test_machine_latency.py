"""What machine it is, and how long a bundle takes on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from sprint_export.errors import InputError
from sprint_export.progress import Step
from sprint_export.validate.latency import time_bundle
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.measure import time_components
from tests.bundles import shared_bundle
from tests.tree import ROLES


def test_the_machine_is_named_with_its_cores_and_system() -> None:
    text = describe_machine()
    assert text.endswith(f", {os.cpu_count()} cores, {platform.system()}")
    assert len(text.split(",")[0]) >= 3


def test_every_component_and_the_whole_picture_are_timed(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: list[tuple[Step, int, int]] = []
    folder = shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")
    report = time_bundle(folder, runs=3, progress=lambda *step: seen.append(step))
    found = {(row.component, row.metric): row.value for row in report.rows}
    names = (*ROLES, "whole picture")
    assert set(found) == {(name, f"latency_p{percent}_ms") for name in names for percent in (50, 90)}
    assert all(0 < found[name, "latency_p50_ms"] <= found[name, "latency_p90_ms"] for name in names)
    assert found["whole picture", "latency_p50_ms"] > max(found[role, "latency_p50_ms"] for role in ROLES)
    assert (report.prompts, report.passed, report.target) == (3, True, "trt-fp8")
    assert "fp32-compute shadow" in report.runtime
    assert seen == [(Step("timing"), i, 3) for i in range(4)]


def test_fewer_than_one_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs=0: expected at least 1"):
        time_bundle(tmp_path, runs=0)


def test_percentiles_leave_the_first_call_out() -> None:
    rows = time_components({"transformer": [9.0, 0.001, 0.002, 0.003]}, {"transformer": [0.5]})
    found = {row.metric: row.value for row in rows}
    assert found["latency_p50_ms"] == pytest.approx(2.0)
    assert found["latency_p90_ms"] == pytest.approx(2.8)
    assert found["pytorch_latency_p50_ms"] == pytest.approx(500.0), "a single call is better than none"
