"""validate_bundle: what it writes, what it refuses, and that a few prompts are as good a question as many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import locate_kind, read_bundle, write_bundle
from sprint_export.noise import make_noise
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.progress import quiet
from sprint_export.quantize.mend.edits import read_edits
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.students import load_student
from sprint_export.students.family import Draws
from sprint_export.validate import side_by_side, validate_bundle
from sprint_export.validate.report_file import read_report
from sprint_export.validate.side_by_side import compare_components, draw_rounded
from tests.bundles import copy_bundle, drop_app, list_files, read_rows
from tests.fake_device import fake_device
from tests.made_student import PROMPTS
from tests.tree import ROLES


@pytest.fixture(scope="module")
def folder(made_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made student in float16: graphs, no report yet."""
    out = tmp_path_factory.mktemp("validate") / "bundle"
    convert(str(made_folder), "onnx-fp16", out, prompts=PROMPTS, validate=False)
    return out


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_number_of_prompts_will_do(folder: Path, made: Student, count: int) -> None:
    """Fewer than are compared component by component, and more."""
    report = validate_bundle(folder, made, prompts=[*PROMPTS] * 3, count=count)
    assert report.prompts == count
    found = read_rows(folder)
    assert {role for role in ROLES if (role, "converter_psnr_db") in found} == set(ROLES)
    assert found["", "psnr_worst_db"]["value"] <= found["", "psnr_db"]["value"]


def test_torch_draws_its_sides_on_a_device_and_the_report_says_so(
    folder: Path, made: Student, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = validate_bundle(folder, made, prompts=PROMPTS[:1])
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "device"))
    with fake_device() as (compute, said):
        found = validate_bundle(folder, made, prompts=PROMPTS[:1], compute=compute)
    assert found.machine == f"{wanted.machine}; {compute.description}"
    assert not said
    rows = {(row.component, row.metric): row.value for row in found.rows if "latency" not in row.metric}
    assert rows == pytest.approx({key: row.value for row in wanted.rows if (key := (row.component, row.metric)) in rows}, 0.01)


def test_the_report_on_disk_is_the_one_returned(folder: Path, made: Student) -> None:
    report = validate_bundle(folder, made, prompts=PROMPTS, gates=["psnr_db>=1", "denoised_relative_error<=1e-9"])
    value = json.loads((folder / "report.json").read_text("utf-8"))
    assert value["passed"] is report.passed is False
    assert value["verdict"] == report.verdict == "not met"
    assert read_report(folder) == report
    verdicts = {row.metric: (row.limit, row.passed) for row in report.rows if row.limit}
    assert verdicts["psnr_db"] == ("psnr_db>=1", True), "the user's gate took the default's place"
    assert verdicts["denoised_relative_error"] == ("denoised_relative_error<=1e-09", False)
    assert report.runtime.startswith("ONNX Runtime") and "shadow" not in report.runtime, "the graph itself ran"
    assert {"report.json", "report.html", "contact_sheet.png"} <= list_files(folder)
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("data-place=") == len(report.pictures) == len(PROMPTS)
    assert all(block.block in page for block in report.blocks)
    assert "denoised_relative_error</code> of transformer" in page, "of the gate that is not met"
    assert not [name for name in list_files(folder) if ".part" in name]


def test_wrong_questions_are_refused_before_any_picture(folder: Path, made: Student, tiny_student: Student) -> None:
    for named, message in (
        ({"count": 0}, "count=0: expected at least one prompt to validate with"),
        ({"prompts": []}, "no prompts to validate with; give --prompts FILE"),
        ({"gates": ["psnr_db"]}, "gate 'psnr_db' is not of the form"),
        ({"runtime": "trt"}, "unknown runtime for onnx bundles: 'trt'; choose from: onnx"),
        ({"student": tiny_student}, "is not the student this bundle was made from"),
    ):
        with pytest.raises(InputError, match=message):
            validate_bundle(folder, **({"student": made} | named))


def test_a_vocabulary_that_is_not_the_students_is_said(folder: Path, made: Student, tmp_path: Path) -> None:
    """Else an id beyond the table would be torch's to stumble over."""
    other = drop_app(copy_bundle(folder, tmp_path / "other"))
    bundle = read_bundle(other)
    write_bundle(replace(bundle, prompt=replace(bundle.prompt, vocabulary=2**21, pad_id=2**20)))
    with pytest.raises(BundleError, match=r"says prompt\.vocabulary=2097152, the student has \d+; export the student again"):
        validate_bundle(other, made, prompts=PROMPTS, count=1)


def test_a_folder_that_a_bundle_names_is_not_opened_by_itself(folder: Path, made_folder: Path) -> None:
    """A bundle may come from anywhere, and so may what its `source` leads to."""
    with pytest.raises(InputError) as raised:
        validate_bundle(folder, prompts=PROMPTS)
    assert f"this bundle says it was made from {str(made_folder)!r}" in str(raised.value)
    assert f"--student {made_folder}" in str(raised.value)


def test_a_gate_on_an_unknown_metric_lists_the_metrics(folder: Path, made: Student) -> None:
    with pytest.raises(
        InputError, match=r"unknown gate metric 'beauty'; choose from: .*converter_image_psnr_db, .*psnr_db, .*ssim"
    ):
        validate_bundle(folder, made, prompts=PROMPTS[:1], gates=["beauty>=9"])


def test_a_bundle_without_all_networks_cannot_be_validated(tiny_student: Student, tmp_path: Path) -> None:
    bundle = convert(tiny_student, "onnx-fp32", tmp_path / "out", components=("vae_decoder",))
    with pytest.raises(BundleError, match="the bundle has no text_encoder, transformer: no picture can be drawn"):
        validate_bundle(bundle, tiny_student)


EDITING = {
    "smoothed": Recipe("smooth", (Rule("*", "int8"),), tuple(PROMPTS), 1, smooth=0.5, correct_bias=True),
    "fitted": Recipe("fitted", (Rule("*.embed_tokens", "w8a16"), Rule("*", "int4")), tuple(PROMPTS), 1, gptq=True),
}


@pytest.mark.parametrize("recipe", EDITING.values(), ids=EDITING)
def test_an_edited_bundle_is_checked_without_its_calibration(
    made_folder: Path, made: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    """Another machine has no calibration cache: the torch side takes smoothing, biases and fitted weights from the bundle."""
    bundle = convert(str(made_folder), "onnx-int8", tmp_path / "bundle", recipe=recipe, prompts=PROMPTS, validate=False)
    kept = {role: read_edits(locate_kind(bundle, role, "edits")) for role in ROLES}
    assert all(kept.values()), "each network was edited"
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "another machine"))
    report = validate_bundle(bundle, made, prompts=PROMPTS)
    kept_there = [path.name for path in (tmp_path / "another machine").iterdir()]
    assert kept_there == ["reference"], "PyTorch's own pictures, and no calibration"
    psnr = {row.component: row.value for row in report.rows if row.metric == "converter_psnr_db"}
    monkeypatch.setattr(side_by_side, "read_edits", lambda path: {})
    without = draw_rounded(
        bundle, load_student(bundle.source), Draws(PROMPTS, make_noise(0, 1, 2, bundle.latent_shape), 4.5), quiet
    )
    rows = compare_components(bundle, load_runtime("onnx"), without)
    lost = {row.component: row.value for row in rows if row.metric == "converter_psnr_db"}
    print(f"converter: {psnr}; without edits: {lost}")
    assert min(psnr.values()) > 50, "a value that flips across a rounding step, of inputs or outputs, is all that differs"
    assert all(lost[role] < psnr[role] - 5 for role in ROLES), "the edits are what makes them agree"
