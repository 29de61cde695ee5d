"""A bench on the terminal: gates with their verdicts, and the exit status of one that is not met or not decided."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer

from sprint_export.cli.bench import read_batches, show_bench
from sprint_export.errors import InputError
from sprint_export.nouns.report import Measurement, Report, Verdict
from sprint_export.validate.latency.results import Bench, Conditions
from sprint_export.validate.latency.table import describe_conditions, name_gates

ROW = Measurement("latency_p50_ms", 9.5, "ms", "whole picture", "latency_p50_ms<=9", interval=(8.5, 10.25))
REPORT = Report("my-bundle", "onnx-int8", "a runtime", "a machine", 12, (ROW,))
CONDITIONS = Conditions(
    *("own", 12, 2, 1, 0, 2, 6, False, "not applicable", "a processor"),
    others_share=0.25,
    clock_mhz=(2000.0, 1990.0, 1500.0, 1400.0),
    throttled=True,
    throttling="why",
)


@pytest.mark.parametrize(
    ("verdict", "allowed", "status", "said"),
    [
        ("met", False, 0, ""),
        ("not met", True, 1, "gate not met: latency_p50_ms of whole picture is 9.5 (8.5 to 10.25), demanded latency_p50_ms<=9"),
        ("not decided", False, 1, "gate not decided: latency_p50_ms of whole picture is 9.5 (8.5 to 10.25), demanded"),
        ("not decided", True, 0, "gate not decided: "),
    ],
)
def test_the_exit_status_is_the_verdicts(
    verdict: Verdict, allowed: bool, status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(replace(REPORT, rows=(replace(ROW, verdict=verdict),)), CONDITIONS, "id")
    if status:
        with pytest.raises(typer.Exit) as left:
            show_bench(bench, as_json=True, allow_undecided=allowed)
        assert left.value.exit_code == status
    else:
        show_bench(bench, as_json=True, allow_undecided=allowed)
    assert bool(name_gates(bench.report, verdict))
    wanted = [name_gates(bench.report, each) for each in ("not met", "not decided")]
    assert [bool(text) for text in wanted] == [verdict == "not met", verdict == "not decided"]
    assert all(said.partition(": ")[2] in text or not text for text in wanted)


def test_conditions_are_said_in_lines() -> None:
    lines = list(describe_conditions(replace(CONDITIONS, minutes=({"minute": 0, "runs": 60, "p50_ms": 1000.0},))))
    assert "clocks: 2000, 1990, 1500 MHz at start, middle, end; least 1400" in lines
    assert "throttled: yes (why)" in lines
    assert "other programs used 25 % of the processors: what they do next is in no interval" in lines
    assert "other programs used 5 % of the processors" in describe_conditions(replace(CONDITIONS, others_share=0.05))
    assert lines[-1] == "minute 1: p50 1000 ms of 60"


def test_batches_are_whole_numbers() -> None:
    assert (read_batches(None), read_batches("4"), read_batches("1,2,4")) == ((), (4,), (1, 2, 4))
    with pytest.raises(InputError, match="--batch two: expected a number of pictures, or several with commas"):
        read_batches("two")
