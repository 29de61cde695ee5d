"""A second family in one folder, and nothing else edited: every stage takes it, on every kind of target."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import sprint_export.students
from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.inspection import list_names
from sprint_export.noise import make_noise
from sprint_export.quantize.torch_session import open_torch
from sprint_export.registry import list_members
from sprint_export.runtimes import open_bundle
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, Family, load_family
from tests.bundles import read_rows
from tests.students.contract import STEPS, check_conversion, check_drawing

FOLDER = Path(__file__).parent / "students"
TARGETS = {"onnx-int8": 25, "trt-fp8": 22, "coreml-int8": 35}  # -> least psnr_db


@pytest.fixture(scope="module")
def family() -> Iterator[Family]:
    """The folder becomes a part of the package for the time of these tests."""
    sprint_export.students.__path__.append(str(FOLDER))
    list_members.cache_clear()
    yield load_family("stripes")
    sprint_export.students.__path__.remove(str(FOLDER))
    list_members.cache_clear()


@pytest.fixture(scope="module", params=TARGETS)
def converted(request: pytest.FixtureRequest, family: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("stripes") / request.param
    check_conversion(family, request.param, folder, TARGETS[request.param])
    return request.param, folder


@pytest.mark.parametrize("steps", STEPS)
def test_it_draws_what_its_reference_draws(family: Family, steps: int) -> None:
    check_drawing(family, steps)


def test_it_goes_the_whole_road(converted: tuple[str, Path], family: Family) -> None:
    target, folder = converted
    rows = read_rows(folder)
    assert {component for component, _ in rows} == {"", "reader", "hinter", "painter", "unpacker"}
    assert rows["painter", "denoised_relative_error"]["value"] < 0.2
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    assert manifest["latent_shape"] == [64, 12]
    assert (manifest["prompt"]["suffix"], manifest["prompt"]["keeps_first"]) == (" <end> <assistant>", False)
    if target == "trt-fp8":
        assert {path.parent.name for path in folder.glob("*/model.sm89.engine")} == {"reader", "hinter", "painter", "unpacker"}
    if target == "coreml-int8":
        notes = manifest["components"][0]["notes"]
        assert "layout: channels last; stripes has no channels-first form" in notes


def test_what_is_not_given_is_skipped(converted: tuple[str, Path], family: Family) -> None:
    """The outline steers; without it the hinter does not run, and the painter reads zeros."""
    _, folder = converted
    pipe, student = open_bundle(folder), family.tiny()
    prompts, noise = student.validation_prompts[:1], make_noise(1, 1, 1, (64, 12))
    outline = {"outline": np.random.default_rng(3).standard_normal((1, 64, 16)).astype(np.float32)}
    plain = pipe(prompts, noise=noise)
    assert set(pipe.seconds) == {"reader", "painter", "unpacker"}
    steered = pipe(prompts, noise=noise, inputs=outline)
    assert set(pipe.seconds) == {"reader", "hinter", "painter", "unpacker"}
    for pictures, inputs in ((plain, {}), (steered, outline)):
        wanted = family.draw_reference(student, Draws(prompts, noise, 1.0, inputs)).pictures
        assert np.abs(pictures.astype(float) - wanted).mean() < np.abs(plain.astype(float) - steered).mean() / 2
    with pytest.raises(InputError, match="inputs: no network takes 'outlines'; those that can be given: outline"):
        pipe(prompts, inputs={"outlines": outline["outline"]})
    with pytest.raises(InputError, match=r"inputs: outline has shape \[1, 64, 15\], expected \[1, 64, 16\]"):
        pipe(prompts, inputs={"outline": outline["outline"][..., :15]})


def test_an_optional_network_may_be_left_out_and_another_may_not(family: Family, tmp_path: Path) -> None:
    roles = ("reader", "painter", "unpacker")
    convert("random:stripes", "onnx-int8", tmp_path / "plain", components=roles, count=1)
    assert {component for component, _ in read_rows(tmp_path / "plain")} == {"", *roles}
    convert("random:stripes", "onnx-fp32", tmp_path / "part", components=("hinter", "painter"))
    assert not (tmp_path / "part" / "report.json").exists()
    with pytest.raises(BundleError, match="has no reader, unpacker: it was exported with --component"):
        open_bundle(tmp_path / "part")
    with pytest.raises(
        InputError, match="unknown component 'transformer'; choose from: hinter, painter, reader, thin_unpacker, unp"
    ):
        convert("random:stripes", "onnx-fp32", tmp_path / "none", components=("transformer",))


def test_a_network_stands_in_for_another(family: Family, tmp_path: Path) -> None:
    from sprint_export.students.stripes.networks import make_student  # type: ignore[import-not-found]  # there for these tests

    student = make_student(is_thin=True)
    assert student.chain.list_missing(student.components) == ()
    convert(student, "onnx-int8", tmp_path / "thin", count=2)
    assert read_rows(tmp_path / "thin")["thin_unpacker", "converter_psnr_db"]["value"] > 40


def test_it_loads_from_a_folder_and_is_listed(family: Family, tmp_path: Path) -> None:
    student = family.tiny()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StripesPipeline"}', "utf-8")
    for role, component in student.components.items():
        (tmp_path / role).mkdir()
        save_file({name: handle.load() for name, handle in component.weights.items()}, tmp_path / role / "model.safetensors")
    shutil.copytree(student.tokenizer, tmp_path / "tokenizer")
    drawn = [open_torch(specialize_student(each))(["a red stripe"], seed=1) for each in (student, load_student(tmp_path))]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert list_names("students")["random:stripes"] == "Stripes, 32 px, random weights"
    recipes = list_names("recipes")
    assert recipes["balanced"] != recipes["balanced (stripes)"] == "all that kernels take, but where the picture leaves"
    with pytest.raises(RefusedError, match="--dynamic: students of stripes draw one size only"):
        family.free_sizes(student)
