"""A bundle beside its reference, without PyTorch: what is measured, judged, said not to be checked, and never written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_export.bundle_files import REFERENCE
from sprint_export.conversion import convert
from sprint_export.errors import InputError
from sprint_export.export.bundle import make_artifact, read_bundle
from sprint_export.nouns.report import Report
from sprint_export.nouns.student import Student
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.merging.result import DeviceResult, read_result
from tests.bundles import check_refused, copy_bundle, drop_app, edit_manifest, run_command

PROMPTS = ("a red circle above a blue square", "a green circle", "a small cyan triangle")


@pytest.fixture(scope="module")
def bundle(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("against") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, prompts=PROMPTS, validate=False)
    return folder


@pytest.fixture(scope="module")
def result(bundle: Path) -> DeviceResult:
    return validate_against_reference(bundle, label="here", runs=2)


def alter(source: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """A copy whose reference says something else; its hashes fit."""
    copy_bundle(source, folder)
    value = json.loads((folder / REFERENCE).read_text("utf-8"))
    change(value)
    (folder / REFERENCE).write_text(json.dumps(value), "utf-8")
    drop_app(folder)

    def sign(manifest: Any) -> None:
        entry = next(each for each in manifest["artifacts"] if each["path"] == REFERENCE)
        made = make_artifact(folder, folder / REFERENCE, "", "", "")
        entry.update(bytes=made.bytes, sha256=made.sha256)

    edit_manifest(folder, sign)
    return folder


def values(report: Report) -> dict[str, float]:
    return {row.metric: row.value for row in report.rows if not row.component}


def test_where_it_was_drawn_all_is_equal_to_the_bit(bundle: Path, result: DeviceResult) -> None:
    report = result.report
    assert values(report) == {
        "reference_psnr_db": 100.0,
        "reference_psnr_worst_db": 100.0,
        "reference_largest_difference": 0.0,
        "reference_same_percent": 100.0,
        "reference_other_inputs": 0.0,
    }
    assert (report.verdict, report.prompts, report.target) == ("met", 3, "onnx-fp32")
    assert [picture.prompt for picture in report.pictures] == list(PROMPTS)
    assert [check.prompt for check in result.checks] == list(PROMPTS)
    assert (result.identity, result.label, result.provider) == (read_bundle(bundle).identity, "here", "default")
    assert result.versions["onnxruntime"] in report.runtime
    limits = {row.metric: row.limit for row in report.rows if row.limit}
    assert limits == {
        "reference_psnr_worst_db": "reference_psnr_worst_db>=75",
        "reference_other_inputs": "reference_other_inputs<=0",
    }


def test_what_pytorch_would_add_is_said(bundle: Path, result: DeviceResult) -> None:
    assert "PyTorch was not run" in result.report.unchecked[0]
    assert "3 pictures were drawn" in result.report.unchecked[1]
    assert not any("timed" in sentence for sentence in result.report.unchecked)
    untimed = validate_against_reference(bundle)
    assert untimed.bench is None and "nothing was timed" in untimed.report.unchecked[-1]
    assert untimed.label == untimed.report.machine


def test_pictures_are_timed_where_that_is_asked_for(result: DeviceResult) -> None:
    timed = {row.component for row in result.report.rows if row.metric == "latency_p50_ms"}
    assert timed == {"text_encoder", "transformer", "vae_decoder", "whole picture"}
    assert result.bench is not None and result.bench.runs == 2
    assert "cold_start_ms" in {row.metric for row in result.report.rows}


def test_nothing_is_written_into_the_bundle(bundle: Path) -> None:
    def look() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in (bundle, *bundle.rglob("*"))}

    before = look()
    validate_against_reference(bundle)
    assert look() == before


def test_another_output_is_found_and_its_network_named(bundle: Path, tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["further"][0]["stages"][1]["outputs"]["denoised"]["sha256"] = "0" * 64

    found = validate_against_reference(alter(bundle, tmp_path / "bundle", change))
    assert [check.begins for check in found.checks] == ["", "transformer in step 1", ""]
    row = next(row for row in found.report.rows if row.metric == "reference_same_percent")
    assert row.value == pytest.approx(800 / 9)
    assert row.note == "8 of 9 calls of networks equal to the bit; others from transformer in step 1 on"
    assert found.report.verdict == "met", "the picture is the reference's"


def test_other_token_ids_are_never_met(bundle: Path, tmp_path: Path) -> None:
    found = validate_against_reference(alter(bundle, tmp_path / "bundle", lambda value: value["drawings"][0]["ids"].append(1)))
    assert found.report.verdict == "not met"
    assert [row.metric for row in found.report.rows if row.verdict == "not met"] == ["reference_other_inputs"]


def test_a_gate_of_the_users_takes_the_place_of_the_default(bundle: Path) -> None:
    found = validate_against_reference(bundle, gates=["reference_psnr_worst_db>=120"])
    row = next(row for row in found.report.rows if row.metric == "reference_psnr_worst_db")
    assert (row.limit, row.verdict) == ("reference_psnr_worst_db>=120", "not met")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gates": ["psnr_db>=30"]}, r"unknown gate metric of a validation against reference/.*'psnr_db'.*reference_psnr_db"),
        ({"gates": ["latency_p50_ms<=9"]}, "unknown gate metric of a validation"),
        ({"runs": -1}, "runs=-1: expected 0 or more"),
        ({"label": "x" * 201}, "label: found 201 letters, expected at most 200"),
        ({"runtime": "trt"}, "unknown runtime"),
    ],
)
def test_what_it_cannot_do_is_refused(bundle: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate_against_reference(bundle, **asked)


def test_a_bundle_without_a_reference_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = drop_app(copy_bundle(bundle, tmp_path / "bundle"))
    edit_manifest(folder, lambda v: v.update(artifacts=[a for a in v["artifacts"] if a["kind"] != "reference"]))
    with pytest.raises(InputError, match="has no reference/reference"):
        validate_against_reference(folder)


def test_the_command_writes_what_it_prints(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = run_command("validate", bundle, "--reference", "--label", "lab", "--out", out, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(out.read_text("utf-8"))
    assert read_result(out).label == "lab"
    done = run_command("validate", bundle, "--reference", "--gate", "reference_psnr_db>=101", folder=tmp_path)
    assert done.returncode == 1
    assert "gate not met: reference_psnr_db" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reference", "--count", "3"), "--count takes PyTorch; expected it without --reference"),
        (("--reference", "--lora", "a.safetensors"), "--lora takes PyTorch"),
        (("--out", "x.json"), "--out is of a validation against reference/; expected --reference beside it"),
        (("--reference", "--out", "."), "--out . is a folder; expected a file"),
    ],
)
def test_options_of_both_validations_are_refused(bundle: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    check_refused(run_command("validate", bundle, *arguments, folder=tmp_path), 2, said)
