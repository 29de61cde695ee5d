"""Results of many devices as one report: judged here, told apart, escaped, beside the bundle and not in it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import pytest

from sprint_export.conversion import convert
from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.student import Student
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.merging.files import describe_merged, write_merged
from sprint_export.validate.merging.merge import MOST_RESULTS, Merged, merge_results
from sprint_export.validate.merging.page import render_page
from sprint_export.validate.merging.result import DeviceResult, format_result
from sprint_export.validate.merging.table import Table, list_facts, list_tables, name_failures
from tests.bundles import check_refused, list_files, run_command
from tests.demo.browser_tools import find_node_modules
from tests.validate.merging.made_results import make_result

WALK = Path(__file__).with_name("walk_devices.mjs")
HOSTILE = "<script>alert(1)</script> \x1b[31m [bold]"


@pytest.fixture(scope="module")
def bundle(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merging") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, prompts=["a red circle"], validate=False)
    return folder


def write(folder: Path, *results: DeviceResult) -> list[Path]:
    paths = [folder / f"result_{i}.json" for i in range(len(results))]
    for path, result in zip(paths, results, strict=True):
        path.write_text(format_result(result), "utf-8")
    return paths


def merge(bundle: Path, folder: Path, *results: DeviceResult, gates: tuple[str, ...] = ()) -> Merged:
    return merge_results(bundle, write(folder, *results), gates)


@pytest.fixture
def two(bundle: Path, tmp_path: Path) -> Merged:
    identity = read_bundle(bundle).identity
    good = make_result("good", identity, psnr_db=90.0, milliseconds=20.0, driver="GPU, 580.11")
    return merge(bundle, tmp_path, good, make_result(HOSTILE, identity, psnr_db=40.0))


def find_table(merged: Merged, title: str) -> Table:
    return next(table for table in list_tables(merged) if table.title == title)


def test_verdicts_are_taken_here_and_not_from_the_file(two: Merged) -> None:
    """Both claim to meet their own gate; of float32 the default is 75 dB."""
    assert [result.report.verdict for result in two.results] == ["met", "not met"]
    assert two.verdict == "not met"
    assert [line.partition(": not met: ")[2] for line in name_failures(two)] == ["reference_psnr_worst_db>=75, found 40"]


def test_gates_that_are_asked_for_hold_on_every_device_that_was_measured(bundle: Path, tmp_path: Path) -> None:
    identity = read_bundle(bundle).identity
    fast, slow = (make_result(label, identity, 90.0, ms) for label, ms in (("fast", 10.0), ("slow", 100.0)))
    untimed = make_result("untimed", identity, 50.0)
    gates = ("latency_p50_ms<=50", "reference_psnr_worst_db>=45")
    merged = merge(bundle, tmp_path, fast, slow, untimed, gates=gates)
    assert [result.report.verdict for result in merged.results] == ["met", "not met", "met"]
    with pytest.raises(
        InputError, match=r"gate metric 'ssim': no device measured that; choose from: latency_p50_ms, .*reference_"
    ):
        merge(bundle, tmp_path, fast, gates=("ssim>=0.9",))


def test_results_of_another_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    paths = write(tmp_path, make_result("lab", read_bundle(bundle).identity), make_result("lab"))
    with pytest.raises(InputError, match=r"result_1.json is of another bundle: identity abababababab.*copy this bundle"):
        merge_results(bundle, paths)
    check_refused(run_command("report", "--merge", bundle, *paths, folder=tmp_path), 2, "result_1.json is of another bundle")
    assert not list(tmp_path.glob("*-devices"))


def test_pictures_that_the_reference_has_not_are_refused(bundle: Path, tmp_path: Path) -> None:
    result = make_result("lab", read_bundle(bundle).identity)
    for checks in (result.checks * 2, (dataclasses.replace(result.checks[0], prompt="another"),)):
        with pytest.raises(InputError, match=r"result_0.json: its pictures are not those of .*reference\.json"):
            merge(bundle, tmp_path, dataclasses.replace(result, checks=checks))


def test_a_number_of_results_is_bounded(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 results to merge; expected 1 to 200"):
        merge_results(bundle, [])
    with pytest.raises(InputError, match="201 results to merge"):
        merge_results(bundle, [tmp_path / "x.json"] * (MOST_RESULTS + 1))


def test_equal_labels_are_numbered(bundle: Path, tmp_path: Path) -> None:
    identity = read_bundle(bundle).identity
    merged = merge(bundle, tmp_path, *(make_result(label, identity) for label in ("lab", "other", "lab")))
    assert [result.label for result in merged.results] == ["lab (1)", "other", "lab (2)"]
    merged = merge(bundle, tmp_path, *(make_result(label, identity) for label in ("lab", "lab (1)", "lab")))
    assert [result.label for result in merged.results] == ["lab (2)", "lab (1)", "lab (3)"]


def test_tables_have_a_row_for_each_device(two: Merged) -> None:
    quality = find_table(two, "devices")
    assert quality.columns == ("device", "gates", "differs from", "PSNR, dB", "worst, dB", "apart, of 255")
    assert quality.rows[0] == ("good", "met", "transformer", "90", "90", "3")
    speed = find_table(two, "a whole picture")
    assert speed.columns == ("device", "p50, ms", "p90, ms", "memory, MB")
    assert speed.rows == (("good", "21", "21.8", "120"),), "what was not timed has no row"
    assert find_table(two, "networks, p50 / p90 in ms").rows == (("good", "10.5 / 10.9"),)
    pictures = find_table(two, "pictures of reference/")
    assert pictures.columns == ("prompt", "good", HOSTILE)
    assert pictures.rows == (("a red circle (seed 0, 1 step)", "90.0 dB, 3 of 255", "40.0 dB, 3 of 255"),)
    facts = dict(list_facts(two.results[0]))
    assert facts["driver"] == "GPU, 580.11" and facts["versions"] == "onnxruntime 1.30.0" and "timed" not in facts


def test_the_page_holds_what_devices_say_as_text(two: Merged) -> None:
    page = render_page(two)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page and "\x1b" not in page
    assert page.count("<script>") == 1, "the page's own"
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is asked of a network"
    assert "Not every device meets its gates" in page and "nobody looked" in page and "GPU, 580.11" in page
    assert page.count('alt="The reference') == 1


def test_the_page_in_chromium_is_silent_and_no_wider_than_a_phone(two: Merged, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_page(two), "utf-8")
    command = ["node", str(WALK), str(find_node_modules()), str(page)]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert seen["console"] == [], "no script of a label ran, no error"
    assert set(seen["requests"]) == {"file", "data"} and seen["requests"].count("file") == 2
    assert all(whole == window for whole, window in seen["widths"]), seen["widths"]
    assert seen["labels"] == [["good", "<script>alert(1)</script> \\x1b[31m [bold]"]] * 2
    assert seen["pictures"] == [[32], [32]], "the reference's own picture"


def test_figures_without_gates_are_not_called_met(bundle: Path, tmp_path: Path) -> None:
    result = make_result("timed", read_bundle(bundle).identity, milliseconds=5.0)
    rows = tuple(row for row in result.report.rows if row.metric.startswith("latency"))
    bare = dataclasses.replace(result, report=dataclasses.replace(result.report, rows=rows), checks=())
    page = render_page(merge(bundle, tmp_path, bare))
    assert "Measured, not judged" in page
    assert "no picture was compared" in page


def test_both_files_lie_beside_the_bundle(bundle: Path, two: Merged, tmp_path: Path) -> None:
    before = list_files(bundle)
    report, page = write_merged(two, tmp_path / "out")
    value = json.loads(report.read_text("utf-8"))
    assert (value["kind"], value["verdict"], value["passed"], value["target"]) == ("devices", "not met", False, "onnx-fp32")
    assert value["identity"] == read_bundle(bundle).identity and value["validation"] is None
    assert [device["label"] for device in value["devices"]] == ["good", HOSTILE]
    assert [device["verdict"] for device in value["devices"]] == ["met", "not met"]
    assert page.read_text("utf-8") == render_page(two) and value == describe_merged(two)
    assert list_files(bundle) == before
    with pytest.raises(InputError, match="is a bundle, whose own report would be replaced"):
        write_merged(two, bundle)
    with pytest.raises(InputError, match=r"cannot write to .*report.json.*; choose another --out"):
        write_merged(two, report / "below")


def test_a_real_device_is_joined_by_the_command(bundle: Path, tmp_path: Path) -> None:
    paths = write(tmp_path, validate_against_reference(bundle, label="this one"))
    done = run_command("report", "--merge", bundle, *paths, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "this one" in done.stdout and "nothing: equal to" in done.stdout
    assert list_files(tmp_path / "bundle-devices") == {"report.json", "report.html"}
    done = run_command("report", "--merge", bundle, *paths, "--gate", "reference_psnr_db>=101", "--json", folder=tmp_path)
    assert done.returncode == 1 and json.loads(done.stdout)["verdict"] == "not met"
    assert "gate not met: this one: not met: reference_psnr_db>=101, found 100" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("result.json",), "RESULT is for joining results of devices; expected --merge beside it"),
        (("--out", "x"), "--out is for joining results"),
        ((), "has no report.json; make one with: sprint-export validate"),
        (("--merge",), "0 results to merge"),
    ],
)
def test_what_report_cannot_show_is_refused(bundle: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    check_refused(run_command("report", bundle, *arguments, folder=tmp_path), 2, said)
