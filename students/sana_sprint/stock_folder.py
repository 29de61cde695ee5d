"""SANA-Sprint drawn from other programs' folders: the stock pipeline over a diffusers folder whose networks may be quantized.

The networks are opened one by one by the classes that the reference has, from safetensors alone, so no class, module or pickle
that a folder names is ever imported; quantized ones by the quantizer that their config names, which the caller has checked.
Activations are float32. The tokenizer is the folder's own where it has one, the student's else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import SanaSprintPipeline, SCMScheduler

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.nouns.student import Student
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.family import Draws
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer, read_settings
from sprint_export.students.sana_sprint.reference import CLASSES, give_times, given_noise, make_scheduler
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP
from sprint_export.students.stock_networks import open_network


def open_stock(student: Student, folder: Path, has_networks: bool = True) -> SanaSprintPipeline:
    """The stock pipeline over a folder; without networks, they are None.

    Raises:
        InputError: a stock class cannot load what lies in it.
    """
    named: dict[str, dict[str, Any]] = {"text_encoder": {"attn_implementation": ATTENTION}}
    networks = {
        role: open_network(folder / FOLDERS[role][0], CLASSES[role], **named.get(role, {})) if has_networks else None
        for role in FOLDERS
    }
    pipeline = SanaSprintPipeline(
        tokenizer=open_stock_tokenizer(_take_tokenizer(student, folder)),
        text_encoder=networks["text_encoder"],
        vae=networks["vae_decoder"],
        transformer=networks["transformer"],
        scheduler=_open_scheduler(folder),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _take_tokenizer(student: Student, folder: Path) -> Student:
    own = folder / "tokenizer"
    if not own.is_dir():
        return student
    settings = read_settings(own, folder)
    kind = settings.get("tokenizer_class") or "PreTrainedTokenizerFast"
    return replace(student, tokenizer=own, configs={**student.configs, "tokenizer": {"class": kind}})


def _open_scheduler(folder: Path) -> SCMScheduler:
    try:
        with hush():
            return make_scheduler(folder)
    except Exception as error:  # diffusers' own, of all kinds
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{folder / 'scheduler'} cannot be read ({said}); expected what save_pretrained writes") from error


def draw_stock(student: Student, pipeline: Any, draws: Draws) -> npt.NDArray[np.float32]:
    """Pictures in [0, 1], float32 [B, H, W, 3], by a pipeline with SanaSprintPipeline's interface, whoever runs its networks."""
    steps = len(draws.noise)
    if draws.times:
        give_times(pipeline.scheduler, draws.times)
    height, width = (size * pipeline.vae_scale_factor for size in student.latent_shape[1:])
    pictures = []
    for i, prompt in enumerate(draws.prompts):
        with torch.no_grad(), given_noise(draws.noise[1:, i : i + 1]), np.errstate(invalid="ignore"):
            image = pipeline(
                prompt,
                num_inference_steps=steps,
                intermediate_timesteps=INTERMEDIATE_TIMESTEP if steps == 2 else None,
                guidance_scale=draws.guidance,
                height=height,
                width=width,
                latents=torch.from_numpy(draws.noise[0, i : i + 1]),  # the pipeline itself multiplies by sigma_data
                use_resolution_binning=False,
                output_type="np",
            ).images
        pictures.append(np.asarray(image, np.float32))
    return np.concatenate(pictures)
