"""--batch from end to end: graphs of several prompts that draw what those of one do; and who refuses it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sprint_export.bundle_files import REFERENCE
from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.export.bundle import locate, read_bundle
from sprint_export.nouns.student import Student
from sprint_export.options import complete_options
from sprint_export.packing import pack_bundle
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes.open import open_bundle
from sprint_export.validate import validate_bundle
from sprint_export.validate.latency import time_bundle
from tests.bundles import copy_bundle, edit_manifest

BATCH = 2
HAVE = ("onnx", "openvino", "trt")
PROMPTS = ["a red circle", "a small green square below the blue circle", "a circle"]


@pytest.fixture(scope="module")
def bundle(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch") / "bundle"
    convert(made, "onnx-fp32", folder, validate=False, options={"batch": BATCH})
    return folder


def test_it_draws_what_a_bundle_of_one_draws(made: Student, bundle: Path, tmp_path: Path) -> None:
    convert(made, "onnx-fp32", tmp_path / "one", validate=False, options={"batch": 1})
    assert "batch" not in read_bundle(tmp_path / "one").options
    pipeline = open_bundle(bundle)
    found, wanted = (each(PROMPTS, seed=5, count=3) for each in (pipeline, open_bundle(tmp_path / "one")))
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert len({picture.tobytes() for picture in found}) == len(PROMPTS) * 3
    calls = {role: len(seconds) for role, seconds in pipeline.seconds.items()}
    assert calls == {"text_encoder": 2, "transformer": 5, "vae_decoder": 5}  # of 3 texts and 9 pictures


def test_an_app_is_told_nothing_of_it_and_a_reference_is_drawn(bundle: Path, tmp_path: Path) -> None:
    read = read_bundle(bundle)
    assert read.options["batch"] == BATCH
    assert not (bundle / "app.json").exists()
    drawing = json.loads(locate(read, REFERENCE).read_text("utf-8"))["drawings"][0]
    assert all(each["shape"][0] == 1 for stage in drawing["stages"] for each in stage["outputs"].values())
    with pytest.raises(RefusedError, match=r"take \d prompts at once.*which would cost what \d do; leave --batch out"):
        pack_bundle(bundle, "node", tmp_path / "packed")


def test_milliseconds_are_those_of_a_picture(made: Student, bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")
    report = validate_bundle(folder, made, prompts=PROMPTS)
    rows = {(row.component, row.metric): row for row in report.rows}
    assert report.verdict != "not met", "three pictures, one of them to the last bit, decide little"
    assert rows["", "psnr_db"].value > 60
    assert rows["transformer", "converter_psnr_db"].value > 60
    timed = time_bundle(folder, runs=2)
    assert all(row.note.startswith(f"a picture, of {BATCH} drawn at once; ") for row in timed.rows)


@pytest.mark.parametrize("name", list_members("target"))
def test_a_target_can_or_says_why_not(name: str) -> None:
    target = load_target(name)
    device, precision = find_device(target.default_device), target.precisions[0]
    if name in HAVE:
        assert complete_options(target, precision, device, {"batch": 4})["batch"] == 4
        assert complete_options(target, precision, device, {"batch": 1}) == complete_options(target, precision, device, {})
        with pytest.raises(InputError, match="batch=65: expected at most 64"):
            complete_options(target, precision, device, {"batch": 65})
    else:
        with pytest.raises(RefusedError, match=f"^{name}-{precision} --batch 4: .{{20,}}; the nearest that can"):
            complete_options(target, precision, device, {"batch": 4})


@pytest.mark.parametrize("options", [{"dynamic": True}, {"layout": "optimum"}])
def test_what_feeds_one_prompt_refuses_more(options: dict[str, bool | str]) -> None:
    target = load_target("openvino")
    with pytest.raises(RefusedError, match=r"openvino-int8 --batch 4 --\w+.*leave one of the two out"):
        complete_options(target, "int8", find_device("cpu"), {"batch": 4, **options})


@pytest.mark.parametrize("batch", [1, 65, "2", True])
def test_a_manifest_of_another_batch_is_refused(batch: object, bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")
    edit_manifest(folder, lambda value: value["options"].update(batch=batch))
    with pytest.raises(BundleError, match=r"batch"):
        open_bundle(folder)


def test_a_manifest_that_leaves_the_batch_out_does_not_fit_its_graphs(bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")
    edit_manifest(folder, lambda value: value["options"].pop("batch"))
    with pytest.raises(BundleError, match=r"\[2, "):
        open_bundle(folder)
