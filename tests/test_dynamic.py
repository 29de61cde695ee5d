"""--dynamic from end to end: one bundle, pictures of any size, each what diffusers draws at that size; and who refuses it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import InputError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.export.student import bundle_key
from sprint_export.noise import make_noise
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Options
from sprint_export.options import complete_options
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes import open_bundle
from sprint_export.session import Pipeline
from sprint_export.specialize import specialize_student
from sprint_export.students.family import load_family
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.students.sana_sprint.reference import make_reference
from tests.bundles import check_refused, read_rows, run_command
from tests.made_student import PROMPTS, draw_stock

MIN_PSNR_DB = 45.0
DYNAMIC = {"dynamic": True}
FREE = ("onnx", "openvino")  # targets whose sizes may be free


@pytest.fixture(scope="module")
def bundle(made_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own student as onnx-fp32 with free sizes, validated at its own."""
    folder = tmp_path_factory.mktemp("dynamic") / "bundle"
    convert(str(made_folder), "onnx-fp32", folder, prompts=PROMPTS, options=DYNAMIC)
    return folder


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Pipeline:
    return open_bundle(bundle)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (96, 32)])
def test_it_draws_what_diffusers_draws_at_that_size(pipe: Pipeline, made: Student, height: int, width: int) -> None:
    reference = make_reference(made)
    reference.set_progress_bar_config(disable=True)
    noise = make_noise(3, 1, 1, (made.latent_shape[0], height // 4, width // 4))
    _, wanted = draw_stock(reference, PROMPTS[0], noise, (height, width))
    found = pipe(PROMPTS[:1], seed=3, height=height, width=width)
    assert found.shape == wanted.shape == (1, height, width, 3)
    assert wanted.std() > 10, "a flat picture proves nothing"
    assert np.abs(found.astype(int) - wanted).max() <= 1, "more than a rounding apart"
    np.testing.assert_array_equal(found, pipe(PROMPTS[:1], noise=noise), "noise decides the size where none is asked for")


def test_the_default_is_the_students_own_size(pipe: Pipeline) -> None:
    own = pipe(PROMPTS)
    assert own.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(own, pipe(PROMPTS, height=64, width=64))
    assert pipe(PROMPTS[:1], width=32).shape == (1, 64, 32, 3)


def test_noise_of_another_size_than_asked_for_names_both(pipe: Pipeline, made: Student) -> None:
    noise = make_noise(0, 1, 1, made.latent_shape)
    with pytest.raises(InputError, match=r"noise has shape \(1, 1, 4, 16, 16\), expected .* = \(1, 1, 4, 8, 16\)"):
        pipe(PROMPTS[:1], noise=noise, height=32)
    with pytest.raises(InputError, match=r"height=30: expected a positive multiple of 4 pixels; the nearest: 28 and 32"):
        pipe(PROMPTS[:1], height=30)


def test_validation_is_at_the_students_own_size(bundle: Path) -> None:
    rows = read_rows(bundle)
    assert rows["", "psnr_db"]["value"] >= MIN_PSNR_DB
    assert rows["transformer", "converter_psnr_db"]["value"] >= 90


def test_the_manifest_has_the_option_and_the_named_axes(bundle: Path, tmp_path: Path) -> None:
    found = read_bundle(bundle)
    assert found.options == DYNAMIC
    text, transformer, decoder = found.components
    assert transformer.inputs[0].shape == transformer.outputs[0].shape == decoder.inputs[0].shape == (1, 4, "height", "width")
    assert decoder.outputs[0].shape == (1, 3, "4*height", "4*width")
    assert all(isinstance(size, int) for spec in (*text.inputs, *transformer.inputs[1:]) for size in spec.shape)
    done = run_command("inspect", bundle, folder=tmp_path)
    assert "image: float32 [1, 3, '4*height', '4*width']" in done.stdout
    assert "sizes: height and width are free; ranges and checks are those of latents of 16 x 16" in done.stdout


def test_the_command_draws_a_wide_picture(bundle: Path, tmp_path: Path) -> None:
    done = run_command("run", bundle, "a red circle", "--height", 32, "--width", 96, "-o", "a.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "a.png").size == (96, 32)
    done = run_command("run", bundle, "a red circle", "--height", 33, folder=tmp_path)
    check_refused(done, 2, "height=33: expected a positive multiple of 4 pixels; the nearest: 32 and 36")


def test_a_bundle_of_one_size_says_how_to_get_more(made: Student, tmp_path: Path) -> None:
    convert(made, "onnx-fp32", tmp_path / "fixed", validate=False)
    fixed = open_bundle(tmp_path / "fixed")
    assert fixed(PROMPTS[:1], height=64).shape == (1, 64, 64, 3)
    with pytest.raises(InputError, match=r"32 x 64 pixels .*: this bundle draws 64 x 64 .* only; .*export with --dynamic"):
        fixed(PROMPTS[:1], height=32)
    without = dataclasses.replace(fixed, sizes=None)
    with pytest.raises(InputError, match="height=32, width=None: these sessions have one size; leave height and width out"):
        without(PROMPTS[:1], height=32)


@pytest.mark.parametrize("name", list_members("target"))
def test_a_target_can_or_says_why_not(name: str) -> None:
    target = load_target(name)
    device, precision = find_device(target.default_device), target.precisions[-1]
    if name in FREE:
        for each in target.precisions:
            assert complete_options(target, each, device, DYNAMIC)["dynamic"]
        with pytest.raises(InputError, match=f"deployment_target=iOS18: {name} targets have no such option"):
            complete_options(target, precision, device, {"deployment_target": "iOS18", "dynamic": True})
    else:
        with pytest.raises(
            RefusedError, match=f"^{name}-{precision} --dynamic: .{{20,}}; the nearest that can is onnx-(int8|fp16)$"
        ):
            complete_options(target, precision, device, DYNAMIC)
    assert not complete_options(target, precision, device, {}).get("dynamic")


def test_intels_npu_has_fixed_sizes() -> None:
    target = load_target("openvino")
    asked: tuple[tuple[str, Options], ...] = (("cpu", {"compute_unit": "npu", "dynamic": True}), ("intel-npu", DYNAMIC))
    for device, options in asked:
        with pytest.raises(
            RefusedError, match="openvino-int8 --dynamic --compute-unit npu: Intel's NPU compiles networks of fixed"
        ):
            complete_options(target, "int8", find_device(device), options)


def test_a_table_of_positions_has_one_size_which_is_said_before_any_work(tmp_path: Path) -> None:
    student = tiny(interpolation_scale=1.0)
    with pytest.raises(RefusedError, match=r"--dynamic: the transformer of tiny adds a table of 16 x 16 positions .*=1\.0\)"):
        convert(student, "onnx-int8", tmp_path / "out", options=DYNAMIC)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RefusedError, match="draws one size only"):
        load_family(student.family).free_sizes(specialize_student(student))


def test_the_key_depends_on_it(tiny_student: Student) -> None:
    deployments = [Deployment(load_target("onnx"), "fp32", find_device("cpu"), options) for options in ({}, DYNAMIC)]
    keys = {bundle_key(specialize_student(tiny_student), deployment) for deployment in deployments}
    assert len(keys) == 2


def test_patches_of_two_by_two_take_even_sides(tmp_path: Path) -> None:
    convert(tiny(patch_size=2), "onnx-fp32", tmp_path / "out", validate=False, options=DYNAMIC)
    pipe = open_bundle(tmp_path / "out")
    assert pipe(["a"], height=8, width=24).shape == (1, 8, 24, 3)
    with pytest.raises(InputError, match="height=6: expected a positive multiple of 4 pixels; the nearest: 4 and 8"):
        pipe(["a"], height=6)
