"""The reference is the stock SanaSprintPipeline on the same prompts and noise, to the last grey level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.students import load_student
from sprint_export.students.family import Draws
from sprint_export.students.sana_sprint import reference
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.reference import draw_reference, make_reference
from tests.made_student import PROMPTS, draw_stock, make_pipeline, relative_error
from tests.tree import ROLES


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_it_draws_what_the_stock_pipeline_draws(made: Student, steps: int) -> None:
    """The pipeline itself scales the noise by sigma_data: whoever scales it before halves it."""
    noise = make_noise(3, steps, len(PROMPTS), made.latent_shape)
    found = draw_reference(made, Draws(PROMPTS, noise, FAMILY.guidance))
    stock = make_reference(made)
    stock.set_progress_bar_config(disable=True)
    for i, prompt in enumerate(PROMPTS):
        latents, picture = draw_stock(stock, prompt, noise[:, i : i + 1], found.pictures.shape[1])
        deviation = relative_error(found.latents[i : i + 1], latents)
        assert deviation <= 1e-6, f"latents deviate by {deviation:.1e} of their range, tolerance 1e-6"
        np.testing.assert_array_equal(found.pictures[i : i + 1], picture)
    assert found.pictures.std() > 10, "a flat picture proves nothing"
    assert {role: len(seconds) for role, seconds in found.seconds.items()} == {
        role: len(PROMPTS) * (steps if role == "transformer" else 1) for role in ROLES
    }


def test_guidance_and_noise_reach_the_picture(made: Student) -> None:
    noise = make_noise(3, 1, 1, made.latent_shape)
    base = draw_reference(made, Draws(PROMPTS[:1], noise, 4.5)).latents
    assert relative_error(draw_reference(made, Draws(PROMPTS[:1], noise, 9.0)).latents, base) > 1e-4
    assert relative_error(draw_reference(made, Draws(PROMPTS[:1], -noise, 4.5)).latents, base) > 0.1


def test_a_text_encoder_whose_layers_are_read_when_they_run_says_the_same(made: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = make_noise(3, 2, 1, made.latent_shape)
    draws = Draws(PROMPTS[:1], noise, FAMILY.guidance)
    whole = draw_reference(made, draws)
    monkeypatch.setattr(reference, "WHOLE_BYTES", 0)
    stock = make_reference(made)
    assert next(stock.text_encoder.parameters()).is_meta
    streamed = draw_reference(made, draws)
    np.testing.assert_array_equal(streamed.pictures, whole.pictures)
    np.testing.assert_array_equal(streamed.latents, whole.latents)


def test_a_transformer_whose_blocks_are_widened_when_they_run_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen-bit weights are numbers of float32 too, so the values are the same to the bit."""
    pipeline = make_pipeline()
    pipeline.transformer.to(torch.bfloat16)
    pipeline.save_pretrained(tmp_path)
    student = load_student(tmp_path)
    draws = Draws(PROMPTS[:1], make_noise(3, 2, 1, student.latent_shape), FAMILY.guidance)
    whole = draw_reference(student, draws)
    monkeypatch.setattr(reference, "WIDENED_BYTES", 0)
    stock = make_reference(student)
    kept = {parameter.dtype for parameter in stock.transformer.transformer_blocks[0].attn1.parameters()}
    assert (kept, stock.transformer.dtype) == ({torch.bfloat16}, torch.float32)
    np.testing.assert_array_equal(draw_reference(student, draws).latents, whole.latents)
