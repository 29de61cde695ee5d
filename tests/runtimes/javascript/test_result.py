"""What JavaScript measures of a bundle, in Node, in a page and by command, is a result that `report --merge` joins."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export import __version__
from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.packing import pack_bundle
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.merging.merge import merge_results
from sprint_export.validate.merging.page import render_page
from sprint_export.validate.merging.result import read_result
from tests.bundles import shared_bundle
from tests.runtimes.javascript.pictures import read_value
from tests.runtimes.javascript.programs import PACKAGE, has_node, make_work_folder, run_in_browser, run_in_node

pytestmark = pytest.mark.skipif(not has_node(), reason="node and npm are not installed")

ONE = {"threads": 1}
RUNS = 4
FIGURES = ("reference_psnr_db", "reference_psnr_worst_db", "reference_largest_difference", "reference_same_percent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_work_folder(tmp_path_factory.mktemp("result"))
    shutil.copytree(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"), folder / "bundle")
    pack_bundle(folder / "bundle", "web", folder / "packed", draws=False)
    shutil.copytree(folder / "bundle", folder / "damaged")
    (folder / "damaged" / "bundle.json").write_text("{", "utf-8")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Of Node and of a page: the bundle's, the packed one's, and what is refused."""
    asked = {"runs": RUNS, "label": "a lab's <b>box</b>"}
    jobs = [
        {"do": "validate", "bundle": "bundle", "options": ONE, "asked": asked},
        {"do": "validate", "bundle": "packed", "options": ONE, "asked": {}},
        {"do": "validate", "bundle": "damaged", "options": ONE, "asked": {}},
        {"do": "validate", "bundle": "bundle", "options": ONE, "asked": {"run": 3}},
        {"do": "validate", "bundle": "bundle", "options": ONE, "asked": {"runs": -1}},
    ]
    return {"Node": run_in_node(folder, jobs), "Chromium": run_in_browser(folder, jobs)["results"]}


def write_result(folder: Path, result: Any) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(read_value(result)), "utf-8")
    return path


@pytest.mark.parametrize("place", ["Node", "Chromium"])
def test_a_result_joins_beside_pythons_and_says_what_it_compared(folder: Path, results: Any, tmp_path: Path, place: str) -> None:
    merged = merge_results(folder / "bundle", [write_result(tmp_path, results[place][0])])
    [found] = merged.results
    wanted = validate_against_reference(folder / "bundle")
    rows, pythons = ({row.metric: row for row in each.report.rows} for each in (found, wanted))
    assert found.identity == wanted.identity and found.report.verdict == "met"
    assert {name: rows[name].unit for name in FIGURES} == {name: pythons[name].unit for name in FIGURES}
    assert [(c.prompt, c.seed, c.steps, len(c.stages)) for c in found.checks] == [
        (c.prompt, c.seed, c.steps, 3) for c in wanted.checks
    ]
    assert all(np.isfinite(stage.error) for check in found.checks for stage in check.stages)
    if place == "Node":  # the same kernels
        assert [rows[name].value for name in FIGURES] == [100.0, 100.0, 0.0, 100.0]
        assert {check.begins for check in found.checks} == {""} and all(check.passed for check in found.checks)
    else:
        assert rows["reference_other_inputs"].value == 0 and 40 < rows["reference_psnr_worst_db"].value <= 100
    assert "&lt;b&gt;box" in render_page(merged) and "<b>box" not in render_page(merged)


@pytest.mark.parametrize("place", ["Node", "Chromium"])
def test_times_have_rows_of_each_network_and_conditions(folder: Path, results: Any, tmp_path: Path, place: str) -> None:
    found = read_result(write_result(tmp_path, results[place][0]))
    p50 = {row.component: row.value for row in found.report.rows if row.metric == "latency_p50_ms"}
    assert set(p50) == {"text_encoder", "transformer", "vae_decoder", "whole picture"}
    assert p50["whole picture"] > max(p50["text_encoder"], p50["transformer"], p50["vae_decoder"]) > 0
    assert found.bench is not None and (found.bench.runs, found.bench.threads) == (RUNS, 1)
    assert any(row.metric == "peak_memory_mb" for row in found.report.rows) == (place == "Node")
    library = {"Node": "onnxruntime-node", "Chromium": "onnxruntime-web"}[place]
    assert found.versions[library] == "1.30.0" and found.report.runtime.startswith(f"{library} 1.30.0")


@pytest.mark.parametrize("place", ["Node", "Chromium"])
def test_a_packed_copy_is_another_bundle_and_joins_its_own(folder: Path, results: Any, tmp_path: Path, place: str) -> None:
    path = write_result(tmp_path, results[place][1])
    assert read_result(path).identity == read_bundle(folder / "packed").identity
    assert merge_results(folder / "packed", [path]).verdict == "met"
    with pytest.raises(InputError, match="is of another bundle"):
        merge_results(folder / "bundle", [path])


@pytest.mark.parametrize("place", ["Node", "Chromium"])
def test_a_damaged_manifest_and_options_that_make_no_sense_are_refused(results: Any, place: str) -> None:
    damaged, unknown, runs = (result["error"] for result in results[place][2:])
    assert damaged["code"] == "file" and "bundle.json is damaged" in damaged["message"]
    assert unknown["code"] == "input" and "there is no option run; choose from: runs, label" in unknown["message"]
    assert runs["code"] == "input" and "runs=-1: expected 0 to" in runs["message"]


def run_command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The package's own command, as npm links it."""
    program = folder / "node_modules" / "sprint-export" / "validate.js"
    command = ["node", str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_writes_a_result(folder: Path) -> None:
    done = run_command(folder, "bundle", "--out", "node.json", "--runs", 2, "--label", "box", "--threads", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("node.json: 9 pictures compared, the worst 100.0 dB, at most 0 of 255 apart; 2 timed, p50 ")
    [found] = merge_results(folder / "bundle", [folder / "node.json"]).results
    assert (found.label, found.provider, len(found.checks)) == ("box", "cpu", 9)
    assert [path.name for path in folder.glob("*.part")] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bundle",), "expected one bundle and --out"),
        (("bundle", "--out", "x.json", "--rums", "3"), "--rums"),
        (("bundle", "--out", "nowhere/x.json"), "nowhere"),
        (("bundle", "--out", "bundle"), "bundle is no file; expected one, or a new name"),
        (("no-bundle", "--out", "x.json"), "app.json"),
        (("bundle", "--out", "x.json", "--runs", "some"), "runs=NaN"),
    ],
)
def test_the_command_says_mistakes_in_a_line_and_writes_nothing(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run_command(folder, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and said in done.stderr and "    at " not in done.stderr
    assert not (folder / "x.json").exists()


def test_the_version_is_the_packages() -> None:
    described = json.loads((PACKAGE / "package.json").read_text("utf-8"))["version"]
    assert f'VERSION = "{described}"' in (PACKAGE / "src" / "machine.js").read_text("utf-8")
    assert described == __version__
