"""report.json: numbers or null, never NaN or Infinity; read back it is the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sprint_export.errors import BundleError
from sprint_export.nouns.report import Measurement, Report
from sprint_export.students.sprint_tiny.judge import wilson_interval
from sprint_export.validate.gates import add_defaults, apply_gates, read_gates
from sprint_export.validate.report import name_failures, render_report
from sprint_export.validate.report_file import format_report, read_report

ROWS = (
    Measurement("psnr_db", math.nan, "dB", note="mean"),
    Measurement("converter_relative_error", math.inf, "", "transformer"),
    Measurement("ssim", 0.5, ""),
)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_what_is_no_number_is_null_with_a_note(tmp_path: Path) -> None:
    report = Report("b", "onnx-fp32", "r", "m", 1, apply_gates(ROWS, add_defaults((), "fp32")))
    text = format_report(report)
    rows = json.loads(text, parse_constant=refuse_constant)["rows"]
    assert [row["value"] for row in rows] == [None, None, 0.5]
    assert [row["note"] for row in rows[:2]] == ["not a number; mean", "beyond all numbers"]
    assert rows[0]["passed"] is False, "NaN meets no gate"
    (tmp_path / "report.json").write_text(text)
    found = read_report(tmp_path)
    assert math.isnan(found.rows[0].value)
    assert not found.passed


def test_it_can_be_shown() -> None:
    report = Report(
        "b", "onnx-fp32", "r", "m", 1, apply_gates(ROWS, add_defaults(read_gates(["psnr_db>=1", "psnr_db<=9"]), "fp32"))
    )
    assert len(render_report(report)) == 2
    assert name_failures(report) == "psnr_db is nan, demanded psnr_db>=1 and psnr_db<=9"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 1}', "[" * 100_000])
def test_a_damaged_one_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BundleError, match=r"report\.json is damaged .*; validate the bundle again"):
        read_report(tmp_path)


def test_how_sure_a_share_is() -> None:
    for right, count, wanted in ((64, 64, (94.3, 100.0)), (63, 64, (91.7, 99.7)), (0, 10, (0.0, 27.8)), (506, 512, (97.5, 99.5))):
        low, high = wilson_interval(right / count, count)
        assert (round(low, 1), round(high, 1)) == wanted, "by (p + z^2 / 2n +- z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2 / n)"
