"""A target in one folder: found, offered, exported, validated and refused by name, with no edit anywhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sprint_export.runtimes
from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members
from sprint_export.run_checks import list_targets
from sprint_export.runtimes import open_bundle
from sprint_export.validate.report_file import read_report
from tests.bundles import copy_bundle, edit_manifest

ROOMS = Path(__file__).parent / "runtimes"
PROMPTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    """As if the folder lay in runtimes/."""
    places = sprint_export.runtimes.__path__
    places.append(str(ROOMS))
    list_members.cache_clear()
    yield
    places.remove(str(ROOMS))
    list_members.cache_clear()
    for name in [name for name in sys.modules if name.startswith("sprint_export.runtimes.page")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def made(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "bundle"
    convert(tiny_student, "page-int8", folder, prompts=PROMPTS, options={"workers": 8}, gates=["download_mb<=50"])
    return folder


def run_there(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that knows the folder."""
    code = (
        f"import sys, sprint_export.runtimes as rooms; rooms.__path__.append({str(ROOMS)!r});"
        f"sys.argv = ['sprint-export', *{list(arguments)!r}];"
        "from sprint_export.cli.entry import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_it_is_listed() -> None:
    assert list_targets()["page-int8"] == "ONNX for a page"
    assert list_members("runtime")["page"] == "sprint_export.runtimes.page.runtime"


def test_its_option_is_in_the_help_under_its_own_heading() -> None:
    done = run_there("--help")
    assert done.returncode == 0, done.stderr
    panel = done.stdout.partition("─ Page ─")[2].partition("╰")[0]
    assert "--workers" in panel and "How many workers a page may start; default 4." in panel


def test_its_refusals_are_said_by_the_command() -> None:
    done = run_there("--target", "page-int8", "--workers", "65")
    assert (done.returncode, done.stderr) == (2, "error: page-int8 --workers 65: a browser starts at most 64\n")


def test_a_student_goes_all_the_way_to_a_report_and_a_picture(made: Path) -> None:
    bundle = read_bundle(made)
    assert bundle.options == {"workers": 8}, "in the manifest"
    report = read_report(made)
    rows = {row.metric: row for row in report.rows}
    assert report.runtime == "a page's stand-in"
    assert rows["download_mb"].passed is True and rows["download_mb"].limit == "download_mb<=50"
    assert rows["calls"].value > 0
    assert rows["psnr_db"].value > 20
    picture = open_bundle(made)(PROMPTS[:1])
    np.testing.assert_array_equal(picture, open_bundle(made, "page")(PROMPTS[:1]))


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("page-int8", {"workers": 0}, "workers=0: expected at least 1 \\(workers of a page\\)"),
        ("page-int8", {"dynamic": True}, "page-int8 --dynamic: a page shows one size; the nearest that can is onnx-int8"),
        ("page-fp8", {}, "page-fp8: WebAssembly has no FP8; use page-int8"),
        ("onnx-int8", {"workers": 2}, "workers=2: onnx targets have no such option; it is for page targets"),
        ("page-int9", {}, "unknown target 'page-int9'; .*Did you mean 'page-int8'"),
    ],
)
def test_errors_know_it(target: str, options: dict[str, bool | int | str], said: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, RefusedError), match=said):
        convert("sprint-tiny", target, tmp_path / "out", options=options)


def test_a_gate_on_its_row_is_for_it_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gate metric 'download_mb': onnx bundles have no such row"):
        convert("sprint-tiny", "onnx-int8", tmp_path / "out", gates=["download_mb<=1"])


def test_its_manifest_is_checked_against_what_it_declares(made: Path, tmp_path: Path) -> None:
    folder = copy_bundle(made, tmp_path / "bundle")
    edit_manifest(folder, lambda value: value["options"].update(workers=65))
    with pytest.raises(BundleError, match="options: page-int8 --workers 65: a browser starts at most 64"):
        read_bundle(folder)
