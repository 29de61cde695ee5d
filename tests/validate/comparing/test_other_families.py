"""Diffusers folders of students that TwinFlow distilled: the second time embedder is the student's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import InputError, RefusedError
from sprint_export.libraries import is_installed
from sprint_export.noise import make_noise
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.students.folder import read_json
from sprint_export.validate.comparing.drawing import round_picture
from sprint_export.validate.comparing.entries import diffusers_folder
from sprint_export.validate.comparing.entry import Setting
from tests.students.published_folders import write_qwen, write_z

PROMPTS = ("a red circle", "a blue square above a green one")  # of different lengths
STEPS = 2


def copy_own(student: Student, folder: Path) -> Path:
    assert student.folder is not None
    return Path(shutil.copytree(student.folder, folder))


def load_tiny(family: str) -> Student:
    return load_student("twinflow-tiny") if family == "twinflow_sana" else load_family(family).tiny()


FOLDERS: dict[str, Callable[[Student, Path], Path]] = {
    "twinflow_sana": copy_own,
    "twinflow_qwen": write_qwen,
    "twinflow_z": write_z,
}


@pytest.fixture(params=FOLDERS)
def student(request: pytest.FixtureRequest) -> Student:
    return load_tiny(request.param)


@pytest.fixture
def folder(student: Student, tmp_path: Path) -> Path:
    return FOLDERS[student.family](student, tmp_path / "theirs")


def make_setting(student: Student) -> Setting:
    family = load_family(student.family)
    return Setting(student, PROMPTS, 3, family.plan_times(STEPS), family.guidance, (64, 64))


def test_the_students_own_folder_draws_the_reference(student: Student, folder: Path) -> None:
    family, noise = load_family(student.family), make_noise(3, STEPS, len(PROMPTS), student.latent_shape)
    wanted = family.draw_reference(student, Draws(PROMPTS, noise, family.guidance)).pictures
    entry = diffusers_folder.ENTRY.open(folder, make_setting(student))
    for place, prompt in enumerate(PROMPTS):
        drawn = round_picture(entry.draw(place, prompt, noise[:, place : place + 1]).picture)
        assert np.abs(drawn.astype(int) - wanted[place]).max() <= 1
    assert wanted.std() > 2, "a flat picture proves nothing"


def test_networks_kept_open_draw_the_reference_of_texts_of_one_length_or_several(student: Student) -> None:
    family, noise = load_family(student.family), make_noise(3, STEPS, 2, student.latent_shape)
    plan = StepPlan(family.plan_times(STEPS), family.guidance, starts_from_noise=family.starts_from_noise)
    stock = family.open_whole(student, plan, "cpu", "float32")
    for prompts in (PROMPTS, PROMPTS[:1] * 2):
        wanted = family.draw_reference(student, Draws(prompts, noise, family.guidance)).pictures
        assert np.abs(stock.draw(prompts, noise).astype(int) - wanted).max() <= 1
    assert set(stock.networks) == {"text_encoder", "transformer", "vae_decoder"}
    half = family.open_whole(student, plan, "cpu", "bfloat16").draw(prompts, noise)
    assert 0 < np.abs(half.astype(int) - wanted).mean() < 6


@pytest.mark.skipif(not is_installed("sdnq"), reason="sdnq is not installed")
def test_sdnq_quantizes_the_transformer_and_the_second_embedder_stays(student: Student, folder: Path) -> None:
    from sdnq import save_sdnq_model, sdnq_post_load_quant

    network = diffusers_folder.import_library("diffusers")
    index = read_json(folder / "model_index.json", folder)
    cls = getattr(network, index["transformer"][1])
    quantized = sdnq_post_load_quant(cls.from_pretrained(folder / "transformer"), weights_dtype="int8", minimum_allowed_numel=16)
    shutil.rmtree(folder / "transformer")
    save_sdnq_model(quantized, str(folder / "transformer"))
    family, noise = load_family(student.family), make_noise(3, STEPS, 1, student.latent_shape)
    wanted = family.draw_reference(student, Draws(PROMPTS[:1], noise, family.guidance)).pictures[0]
    entry = diffusers_folder.ENTRY.open(folder, make_setting(student))
    apart = np.abs(round_picture(entry.draw(0, PROMPTS[0], noise).picture).astype(int) - wanted)
    assert apart.max() > 0
    assert apart.mean() < 10
    assert "sdnq" in entry.description


def test_a_damaged_folder_and_pipelines_of_other_libraries_are_refused(student: Student, folder: Path) -> None:
    family = load_family(student.family)
    with pytest.raises(RefusedError, match="folder of its pictures"):
        family.open_stock(student, folder, has_networks=False)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"theirs/transformer: .* cannot load it"):
        diffusers_folder.ENTRY.open(folder, make_setting(replace(student)))
