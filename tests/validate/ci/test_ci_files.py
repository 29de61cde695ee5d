"""Reports as JUnit and Markdown: verdicts, what hostile texts become, and files that are whole or absent."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.report import Measurement, Report
from sprint_export.validate.ci.files import CiFiles
from sprint_export.validate.ci.junit import format_junit
from sprint_export.validate.ci.markdown import format_markdown
from tests.small_bundle import make_small_bundle

ROWS = (
    Measurement("psnr_db", 31.25, "dB", limit="psnr_db>=30", verdict="met", interval=(30.5, 32.0)),
    Measurement("latency_p50_ms", 9.0, "ms", "transformer", "latency_p50_ms<=5", "not met", "of 12 drawings"),
    Measurement("ssim", 0.9, "", limit="ssim>=0.9", verdict="not decided", interval=(0.85, 0.95), needed=500),
    Measurement("disk_mb", 12.5, "MB", "transformer"),
)
REPORT = Report("my-bundle", "onnx-int8", "ONNX Runtime 1.32.0 CPU", "a machine", 12, ROWS, 3.5)


def test_a_gate_is_a_test_case_met_passes_the_others_fail() -> None:
    root = ET.fromstring(format_junit([REPORT]))
    assert {name: root.get(name) for name in ("tests", "failures", "skipped")} == {"tests": "3", "failures": "2", "skipped": "0"}
    (suite,) = root
    assert (suite.get("name"), suite.get("time")) == ("onnx-int8", "3.5")
    met, failed, open_ = suite.findall("testcase")
    assert (met.get("classname"), met.get("name"), len(met)) == ("onnx-int8", "psnr_db>=30", 0)
    assert failed.get("classname") == "onnx-int8.transformer"
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == "not met: latency_p50_ms of transformer is 9 ms, demanded latency_p50_ms<=5"
    assert failure.text == "of 12 drawings"
    undecided = open_.find("failure")
    assert undecided is not None
    assert undecided.get("type") == "not decided"
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["disk_mb of transformer"] == "12.5 MB"


def test_what_is_not_decided_is_skipped_where_that_is_allowed() -> None:
    root = ET.fromstring(format_junit([REPORT], allow_undecided=True))
    assert (root.get("failures"), root.get("skipped")) == ("1", "1")
    skipped = root.find(".//skipped")
    assert skipped is not None
    assert skipped.get("message") == "not decided: ssim is 0.9 (0.85 to 0.95 at 95 %), demanded ssim>=0.9"


def test_a_folder_that_takes_no_files_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # whoever runs this may be root
    with pytest.raises(InputError, match=r"--markdown .*summary.md: nothing can be written into .*; choose another file"):
        CiFiles(markdown=tmp_path / "summary.md").check()


def test_a_report_without_gates_is_one_case_and_a_bundle_without_a_report_is_skipped(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    root = ET.fromstring(format_junit([replace(REPORT, rows=ROWS[3:]), bundle]))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("2", "0", "1")
    assert [case.get("name") for case in root.iter("testcase")] == ["12 drawn, no gates", "validation"]
    text = format_markdown([bundle])
    assert text.startswith("### trt-fp8: not validated\n")


HOSTILE = 'a | b\n<script>alert("x")</script> `c` ]]> \x1b[31m \x00 \ud800'


def test_hostile_texts_are_texts() -> None:
    hostile = replace(REPORT, machine=HOSTILE, rows=(replace(ROWS[1], note=HOSTILE, component=HOSTILE),), unchecked=(HOSTILE,))
    root = ET.fromstring(format_junit([hostile]))
    assert root.find(".//script") is None
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.text == HOSTILE.replace("\x1b", "\\x1b").replace("\x00", "\\x00").replace("\ud800", "?")
    text = format_markdown([hostile])
    assert "<script" not in text
    assert "`" not in text
    rows = [line for line in text.splitlines() if line.startswith("| latency")]
    assert [line.count("|") for line in rows] == [5, 6], "as many cells as the head has"
    assert text.encode("utf-8"), "it can be written"


def test_markdown_opens_with_the_verdict_and_folds_all_rows() -> None:
    text = format_markdown([REPORT])
    lines = text.splitlines()
    assert lines[0] == "### onnx-int8: ❌ **not met**"
    assert "| psnr&#95;db&#62;=30 | ✅ met | 31.25 dB | 30.5 to 32 |" in lines
    assert "<details><summary>All 4 rows</summary>" in text


def test_files_are_written_whole_in_place_of_what_is_there(tmp_path: Path) -> None:
    files = CiFiles(tmp_path / "junit.xml", tmp_path / "summary.md")
    (tmp_path / "summary.md").write_text("before", "utf-8")
    files.check()
    files.write([REPORT])
    assert ET.parse(tmp_path / "junit.xml").getroot().get("tests") == "3"
    assert (tmp_path / "summary.md").read_text("utf-8") == format_markdown([REPORT])
    assert {path.name for path in tmp_path.iterdir()} == {"junit.xml", "summary.md"}


@pytest.mark.parametrize(
    ("junit", "markdown", "message"),
    [
        ("none/a.xml", None, r"--junit .*a\.xml: the folder .*none does not exist"),
        (".", None, r"--junit .* is no file; expected one, or a new name"),
        ("a", "a", "--junit and --markdown are both .*a; expected two files"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(tmp_path: Path, junit: str, markdown: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CiFiles(tmp_path / junit, None if markdown is None else tmp_path / markdown).check()


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(InputError, match="--markdown /dev/null is no file"):
        CiFiles(markdown=Path("/dev/null")).check()
