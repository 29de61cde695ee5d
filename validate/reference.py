"""The PyTorch side: what the stock diffusers pipeline draws from the same prompts and the same noise, in float32."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.schedulers import scheduling_scm

from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.sampler import INTERMEDIATE_TIMESTEP


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

    The text encoder is loaded, reads all prompts and is dropped before the other networks are: it is most of the weights.

    Args:
        student: unspecialized: the stock modules.
        prompts: B texts.
        noise: unit variance float32 [steps, B, C, h, w].
        steps: as the bundle was specialized.
        guidance: likewise.
        progress: is told (step, done, total).
    """
    assert student.make_reference is not None
    seconds: dict[str, list[float]] = {}
    total = 2 * len(prompts)
    texts = _encode_prompts(student, prompts, seconds, lambda done: progress(Step("PyTorch reference"), done, total))
    pipeline = student.make_reference(student, ("transformer", "vae_decoder"))
    pipeline.set_progress_bar_config(disable=True)
    _time_calls(pipeline.transformer, seconds.setdefault("transformer", []))
    _time_calls(pipeline.vae.decoder, seconds.setdefault("vae_decoder", []))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None  # the pipeline accepts one for two steps only
    side = student.latent_shape[1] * pipeline.vae_scale_factor
    for i, (embeds, mask) in enumerate(texts):
        progress(Step("PyTorch reference"), len(prompts) + i, total)
        with _given_noise(noise[1:, i : i + 1]), torch.no_grad(), _keep_latents(pipeline.vae, latents):
            image = pipeline(
                prompt=None,
                prompt_embeds=embeds,
                prompt_attention_mask=mask,
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
    progress(Step("PyTorch reference"), total, total)
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def _encode_prompts(
    student: Student, prompts: Sequence[str], seconds: dict[str, list[float]], tell: Callable[[int], None]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings and mask of each prompt, as the pipeline's call makes them."""
    assert student.make_reference is not None
    pipeline = student.make_reference(student, ("text_encoder",))
    _time_calls(pipeline.text_encoder, seconds.setdefault("text_encoder", []))
    instruction = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
    texts = []
    for i, prompt in enumerate(prompts):
        tell(i)
        with torch.no_grad():
            texts.append(pipeline.encode_prompt(prompt, complex_human_instruction=instruction))
    return texts


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
