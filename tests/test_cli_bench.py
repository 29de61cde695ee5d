"""The command `bench`: JSON, tables, gates and their exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bundles import check_refused, run_command, shared_bundle
from tests.tree import ROLES

QUICKLY = ("--warm-up", 0, "--cold-starts", 0)


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")


def test_bench_prints_percentiles_and_conditions_as_json(fp8: Path, tmp_path: Path) -> None:
    done = run_command("bench", fp8, "--runs", 2, *QUICKLY, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    rows = {(row["component"], row["metric"]) for row in value["rows"]}
    assert rows == {(name, f"latency_p{p}_ms") for name in (*ROLES, "whole picture") for p in (50, 90, 99)}
    assert value["bench"]["runs"] == 2


def test_a_gate_that_a_bench_does_not_meet_is_status_1(fp8: Path, tmp_path: Path) -> None:
    done = run_command("bench", fp8, "--runs", 1, *QUICKLY, "--gate", "latency_p50_ms<=1e-9", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "gate not met: latency_p50_ms of text_encoder is" in done.stderr
    assert "1 counted" in done.stdout


def test_a_gate_that_no_bench_has_is_refused(fp8: Path, tmp_path: Path) -> None:
    done = run_command("bench", fp8, "--gate", "psnr_db>=30", folder=tmp_path)
    check_refused(done, 2, "unknown gate metric of a bench 'psnr_db'", "latency_p50_ms")
