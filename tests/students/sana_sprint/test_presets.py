"""Presets: random weights that are the same every time, and a fingerprint that tells two of them apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import load_preset, tiny
from sprint_export.students.sana_sprint.published import PRESETS
from tests.tree import ROLES


def test_tiny_is_the_same_every_time_and_its_seed_matters() -> None:
    values = [tiny(seed).components["transformer"].weights["proj_out.weight"].load() for seed in (0, 0, 1)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_tiny_is_a_picture_the_stock_pipeline_accepts() -> None:
    image = specialize_student(tiny()).components["vae_decoder"].outputs[0]
    assert image.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("other", [{"patch_size": 2}, {"num_layers": 3}, {"qk_norm": None}])
def test_students_that_differ_have_different_fingerprints(other: dict[str, Any]) -> None:
    """Calibrations are cached under the fingerprint."""
    assert tiny().fingerprint == tiny().fingerprint
    assert len({tiny().fingerprint, tiny(1).fingerprint, tiny(**other).fingerprint}) == 3


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_shapes(name: str) -> None:
    student = load_preset(name)
    assert student.latent_shape == (32, 32, 32)
    assert student.prompt.before == 196, "a prefix of about the length it has in Gemma's tokens"
    image = specialize_shape(name)
    assert image == (1024, 1024)
    steering = {"vae_encoder", "controlnet"} if name.endswith("controlnet") else set()
    assert set(student.components) == set(ROLES) | steering


def specialize_shape(name: str) -> tuple[int, int]:
    preset = PRESETS[name]
    side = preset.transformer["sample_size"] * 2 ** (len(preset.vae["decoder_block_out_channels"]) - 1)
    return side, side
