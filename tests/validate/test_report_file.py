"""report.json: numbers or null, never NaN or Infinity; read back it is the report."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest

from sprint_export.cli.screen import CleanConsole
from sprint_export.errors import BundleError
from sprint_export.nouns.report import BlockError, Measurement, PictureRow, Report
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
    assert rows[0]["verdict"] == "not met", "NaN meets no gate"
    (tmp_path / "report.json").write_text(text)
    found = read_report(tmp_path)
    assert math.isnan(found.rows[0].value)
    assert not found.passed


def test_a_report_that_is_a_link_or_a_folder_is_not_opened(tmp_path: Path) -> None:
    text = format_report(Report("b", "onnx-fp32", "r", "m", 1, ROWS))
    (tmp_path / "outside.json").write_text(text)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "report.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(BundleError, match=r"report\.json is a link, which may lie outside the bundle; validate the bundle again"):
        read_report(tmp_path / "bundle")


def test_it_can_be_shown() -> None:
    report = Report(
        "b", "onnx-fp32", "r", "m", 1, apply_gates(ROWS, add_defaults(read_gates(["psnr_db>=1", "psnr_db<=9"]), "fp32"))
    )
    assert len(render_report(report)) == 2
    assert name_failures(report) == "psnr_db is none, demanded psnr_db>=1 and psnr_db<=9"


def test_what_stands_in_brackets_is_text_and_no_style() -> None:
    """It once ended the command: a closing bracket closes nothing."""
    odd = "[/] [bold]x :warning:"
    rows = (Measurement(odd, 1.0, odd, note=odd), Measurement("b", 1.0, "", odd, note=odd))
    console = CleanConsole(file=io.StringIO(), width=200)
    for table in render_report(Report(odd, odd, odd, odd, 1, rows)):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(odd) == 7


def test_pictures_and_blocks_are_read_back_and_what_is_no_number_stays_none(tmp_path: Path) -> None:
    pictures = (
        PictureRow(0, "<script>", {"psnr_db": 41.5, "lpips": math.nan}),
        PictureRow(1, "b", {"psnr_db": 9.0}, ("adherence_percent",)),
    )
    blocks = (BlockError("transformer", "blocks.0", 0, 41.5, math.inf, departs=True),)
    report = Report("b", "t", "r", "m", 2, ROWS[2:], 1.5, pictures, blocks, ("engines: there is no GPU here",))
    text = format_report(report)
    value = json.loads(text, parse_constant=refuse_constant)
    assert (value["format"], value["pictures"][0]["figures"]) == (2, {"psnr_db": 41.5, "lpips": None})
    (tmp_path / "report.json").write_text(text)
    found = read_report(tmp_path)
    assert math.isnan(found.pictures[0].figures["lpips"]) and math.isnan(found.blocks[0].relative_error)
    assert (found.pictures[1], found.unchecked, found.rows) == (pictures[1], report.unchecked, report.rows)


def test_a_report_of_format_1_is_read_and_one_of_a_later_format_is_not(tmp_path: Path) -> None:
    row = {"metric": "psnr_db", "value": 40.0, "unit": "dB", "component": "", "limit": None, "passed": None, "note": ""}
    first = {"bundle": "b", "target": "t", "runtime": "r", "machine": "m", "prompts": 2, "seconds": 0.0}
    rows = [row | {"interval": None}, row | {"interval": [39.0, 41.0], "limit": "psnr_db>=50", "passed": False}]
    (tmp_path / "report.json").write_text(json.dumps(first | {"rows": rows, "passed": False}))
    found = read_report(tmp_path)
    assert [each.verdict for each in found.rows] == [None, "not met"]
    assert (found.verdict, found.pictures) == ("not met", ())
    (tmp_path / "report.json").write_text(json.dumps(first | {"rows": rows, "format": 3}))
    with pytest.raises(BundleError, match=r"its format is 3, this version reads 1 and 2\); validate the bundle again"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "7", '{"rows": 1}', '{"rows": 1, "format": 2}', '{"format": 2, "rows": [7]}', "[" * 100_000]
)
def test_a_damaged_one_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BundleError, match=r"report\.json is damaged .*; validate the bundle again"):
        read_report(tmp_path)
