"""The reference: the stock SanaSprintPipeline, loaded by the stock classes from the student's own folder, in float32.

Nothing of our reading comes between the folder and these classes, so a fault of our loader shows as a difference. Students with
random weights have no folder; theirs is filled from their handles. Attention of the text encoder is eager, the one form that
applies Gemma-2's soft cap in every version of transformers.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from diffusers.schedulers import scheduling_scm
from transformers import Gemma2Model

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.students.family import Draws, Reference, time_calls
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.configs import SCHEDULER
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP
from sprint_export.weights import choose_variant, materialize

STAGE = "PyTorch reference"  # of progress
FOLDERS = {
    "text_encoder": ("text_encoder", "model"),
    "transformer": ("transformer", "diffusion_pytorch_model"),
    "vae_decoder": ("vae", "diffusion_pytorch_model"),
}


def make_reference(student: Student, roles: Sequence[str] = tuple(FOLDERS)) -> SanaSprintPipeline:
    """The stock pipeline with the networks of these roles; the others are None.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    parts: dict[str, Any] = {role: _make_network(student, role) if role in roles else None for role in FOLDERS}
    return SanaSprintPipeline(
        tokenizer=open_stock_tokenizer(student),
        text_encoder=parts["text_encoder"],
        vae=parts["vae_decoder"],
        transformer=parts["transformer"],
        scheduler=_make_scheduler(student.folder),
    )


def _make_network(student: Student, role: str) -> torch.nn.Module:
    if student.folder is None:
        component = student.components[role]
        return materialize(component.module, component.weights)
    name, stem = FOLDERS[role]
    cls: Any = {"text_encoder": Gemma2Model, "transformer": SanaTransformer2DModel, "vae_decoder": AutoencoderDC}[role]
    named = (
        {"dtype": torch.float32, "attn_implementation": ATTENTION} if role == "text_encoder" else {"torch_dtype": torch.float32}
    )
    folder = student.folder / name
    variant = choose_variant(folder, stem, student.variant) or None
    try:
        with hush():
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **named)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval()
    return real


def _make_scheduler(folder: Path | None) -> SCMScheduler:
    return SCMScheduler.from_config(SCHEDULER) if folder is None else SCMScheduler.from_pretrained(folder / "scheduler")


def draw_reference(student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
    """Run the stock pipeline, one prompt at a time, in float32.

    The text encoder is loaded, reads all prompts and is dropped before the other networks are: it is most of the weights. What is
    kept of an earlier run needs no text encoder.
    """
    noise, steps = draws.noise, len(draws.noise)
    seconds: dict[str, list[float]] = {}
    texts = _encode_prompts(student, draws, seconds, progress)
    pipeline = make_reference(student, ("transformer", "vae_decoder"))
    pipeline.set_progress_bar_config(disable=True)
    time_calls(pipeline.transformer, seconds.setdefault("transformer", []), time.perf_counter)
    time_calls(pipeline.vae.decoder, seconds.setdefault("vae_decoder", []), time.perf_counter)
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None  # the pipeline accepts one for two steps only
    side = student.latent_shape[1] * pipeline.vae_scale_factor
    for i, (embeds, mask) in enumerate(track(texts, Step(STAGE, "pictures"), progress)):
        with _given_noise(noise[1:, i : i + 1]), torch.no_grad(), _keep_latents(pipeline.vae, latents):
            image = pipeline(
                prompt=None,
                prompt_embeds=embeds,
                prompt_attention_mask=mask,
                num_inference_steps=steps,
                intermediate_timesteps=middle,
                guidance_scale=draws.guidance,
                height=side,
                width=side,
                latents=torch.from_numpy(noise[0, i : i + 1]),  # the pipeline itself multiplies by sigma_data
                use_resolution_binning=False,
                output_type="np",
            ).images
        pictures.append(np.rint(image * 255).astype(np.uint8))
        draws.hand_over(i, pictures[-1][0], latents[-1][0])
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def _encode_prompts(
    student: Student, draws: Draws, seconds: dict[str, list[float]], progress: Progress
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings and mask of each prompt, as the pipeline's call makes them."""
    instruction = inspect.signature(SanaSprintPipeline.__call__).parameters["complex_human_instruction"].default

    @functools.cache
    def load() -> SanaSprintPipeline:
        pipeline = make_reference(student, ("text_encoder",))
        time_calls(pipeline.text_encoder, seconds.setdefault("text_encoder", []), time.perf_counter)
        return pipeline

    def encode(prompt: str) -> dict[str, npt.NDArray[Any]]:
        with torch.no_grad():
            embeds, mask = load().encode_prompt(prompt, complex_human_instruction=instruction)
        return {"embeds": embeds.numpy(), "mask": mask.numpy()}

    texts = []
    for prompt in track(draws.prompts, Step(STAGE, "prompts"), progress):
        text = draws.recall(["text", prompt], functools.partial(encode, prompt))
        texts.append((torch.from_numpy(text["embeds"]), torch.from_numpy(text["mask"])))
    return texts


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
