"""The PyTorch side: what the stock diffusers pipeline draws from the same prompts and the same noise, in float32."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.schedulers import scheduling_scm

from sprint_export.progress import Progress, quiet
from sprint_export.sampler import INTERMEDIATE_TIMESTEP
from sprint_export.schema import Student


@dataclass
class Reference:
    """Pictures uint8 [B, H, W, 3] and denoised latents float32 [B, C, h, w]; seconds by component."""

    pictures: npt.NDArray[np.uint8]
    latents: npt.NDArray[np.float32]
    seconds: dict[str, list[float]] = field(default_factory=dict)


def draw_reference(
    student: Student,
    prompts: Sequence[str],
    noise: npt.NDArray[np.float32],
    steps: int,
    guidance: float,
    progress: Progress = quiet,
) -> Reference:
    """Run the student's own pipeline (SanaSprintPipeline for SANA-Sprint), one prompt at a time.

    Args:
        student: unspecialized: the stock modules.
        prompts: B texts.
        noise: unit variance float32 [steps, B, C, h, w].
        steps: as the bundle was specialized.
        guidance: likewise.
        progress: is told (stage, done, total).
    """
    assert student.make_reference is not None
    pipeline = student.make_reference(student)
    pipeline.set_progress_bar_config(disable=True)
    seconds: dict[str, list[float]] = {}
    for role, module in (
        ("text_encoder", pipeline.text_encoder),
        ("transformer", pipeline.transformer),
        ("vae_decoder", pipeline.vae.decoder),
    ):
        _time_calls(module, seconds.setdefault(role, []))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None  # the pipeline accepts one for two steps only
    side = student.latent_shape[1] * pipeline.vae_scale_factor
    for i, prompt in enumerate(prompts):
        progress("PyTorch reference", i, len(prompts))
        with _given_noise(noise[1:, i : i + 1]), torch.no_grad(), _keep_latents(pipeline.vae, latents):
            image = pipeline(
                prompt,
                num_inference_steps=steps,
                intermediate_timesteps=middle,
                guidance_scale=guidance,
                height=side,
                width=side,
                latents=torch.from_numpy(noise[0, i : i + 1]),  # the pipeline itself multiplies by sigma_data
                use_resolution_binning=False,
                output_type="np",
            ).images
        pictures.append(np.rint(image * 255).astype(np.uint8))
    progress("PyTorch reference", len(prompts), len(prompts))
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def _time_calls(module: torch.nn.Module, seconds: list[float]) -> None:
    def start(*_: Any) -> None:
        seconds.append(-time.perf_counter())

    def stop(*_: Any) -> None:
        seconds[-1] += time.perf_counter()

    module.register_forward_pre_hook(start)
    module.register_forward_hook(stop)


@contextlib.contextmanager
def _keep_latents(vae: Any, latents: list[npt.NDArray[np.float32]]) -> Iterator[None]:
    """Note what the pipeline hands to its decoder, back at unit variance."""
    decode = vae.decode

    def noting(z: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        latents.append((z * vae.config.scaling_factor).numpy())
        return decode(z, *arguments, **named)

    vae.decode = noting
    try:
        yield
    finally:
        del vae.decode


@contextlib.contextmanager
def _given_noise(later: npt.NDArray[np.float32]) -> Iterator[None]:
    """Make the scheduler use this noise for its later steps; it draws once more after the last, where it multiplies by 0."""
    draws = iter([*torch.from_numpy(later), None])
    original = scheduling_scm.randn_tensor

    def given(shape: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        value = next(draws)
        return torch.zeros(shape) if value is None else value

    scheduling_scm.randn_tensor = given
    try:
        yield
    finally:
        scheduling_scm.randn_tensor = original
