"""The stock pipeline draws on a device what it draws on the CPU, and goes on there where the device's memory is too small."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from sprint_export.compute import CPU
from sprint_export.noise import make_noise
from sprint_export.students.family import Draws
from sprint_export.students.sana_sprint import reference
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.students.sana_sprint.reference import draw_reference
from tests.fake_device import GIGABYTE, fake_device

PROMPTS = ["a red circle above a blue square", "a green square"]
TOO_LARGE = "PyTorch reference, {}: too large for the memory of Fake GPU; computed on the CPU"
TEXT, PICTURE = (TOO_LARGE.format(roles) for roles in ("text_encoder", "transformer and vae_decoder"))


@pytest.mark.parametrize(
    ("steps", "largest", "said_of"),
    [(1, GIGABYTE, []), (2, GIGABYTE, []), (1, 1 << 13, [TEXT, PICTURE]), (1, 8, [TEXT, PICTURE])],
)
def test_the_reference_is_the_same_on_a_device(steps: int, largest: int, said_of: list[str]) -> None:
    student = tiny()
    noise = make_noise(3, steps, len(PROMPTS), student.latent_shape)
    wanted = draw_reference(student, Draws(PROMPTS, noise, 4.5))
    with fake_device(largest=largest) as (compute, said):
        found = draw_reference(student, Draws(PROMPTS, noise, 4.5, compute=compute))
    assert said == said_of
    deviation = float(np.abs(found.latents - wanted.latents).max())
    assert deviation < 1e-5, f"latents differ by {deviation}: attention is computed by products of its own there"
    off = np.abs(found.pictures.astype(int) - wanted.pictures)
    assert off.max() <= 1 and off.mean() < 1e-3
    assert {role: len(seconds) for role, seconds in found.seconds.items()} == {
        "text_encoder": 2,
        "transformer": 2 * steps,
        "vae_decoder": 2,
    }


def test_the_half_of_the_autoencoder_that_draws_nothing_is_not_held() -> None:
    stock = reference.Stock(tiny(), ("transformer", "vae_decoder"), CPU)
    assert not list(stock.pipeline.vae.encoder.parameters())
    assert list(stock.pipeline.vae.decoder.parameters())


def test_a_pipeline_is_freed_as_soon_as_it_is_dropped() -> None:
    """Its networks are gigabytes; what is in a circle would stay until Python looks for circles."""
    stock = reference.Stock(tiny(), ("transformer",), CPU)
    stock.time(stock.pipeline.transformer, [])
    network = weakref.ref(stock.pipeline.transformer)
    gc.disable()
    try:
        del stock
        assert network() is None
    finally:
        gc.enable()


def test_memory_that_ends_in_the_decoder_is_not_taken_for_a_picture() -> None:
    """The stock pipeline catches the error, warns and goes on without a picture, to fail elsewhere."""

    class Vae:
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    kept: list[np.ndarray] = []
    vae = Vae()
    with reference._keep_latents(vae, kept), pytest.raises(RuntimeError, match=r"^out of memory: CUDA") as caught:
        vae.decode(torch.zeros(1))
    assert type(caught.value) is RuntimeError and not kept
