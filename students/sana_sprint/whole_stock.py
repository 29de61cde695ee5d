"""The stock SanaSprintPipeline kept open with all its networks on a device, called as its users call it; to be timed.

The reference (reference.py) draws the same in float32, network after network, so that a large student fits into memory; here all
of it has to. In float32 and with a schedule of the family's own, both draw the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import SanaSprintPipeline

from sprint_export.errors import InputError, RefusedError
from sprint_export.libraries import hush
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer
from sprint_export.students.sana_sprint.reference import (
    CLASSES,
    CONTROLNET,
    embed_second_time,
    find_files,
    give_times,
    given_noise,
    make_scheduler,
)
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP
from sprint_export.weights import choose_variant, materialize


class SanaStock:
    """Text encoder, transformer and autoencoder of the stock classes, in one pipeline."""

    def __init__(self, student: Student, plan: StepPlan, device: str, dtype: str) -> None:
        if CONTROLNET in student.components:
            raise RefusedError("--against pytorch: a student with a ControlNet is not timed in PyTorch yet; leave it out")
        self.plan, self.device, self.dtype = plan, device, getattr(torch, dtype)
        parts: dict[str, Any] = {role: _load_network(student, role, device, self.dtype) for role in FOLDERS}
        self.pipeline = SanaSprintPipeline(
            tokenizer=open_stock_tokenizer(student),
            text_encoder=parts["text_encoder"],
            vae=parts["vae_decoder"],
            transformer=parts["transformer"],
            scheduler=make_scheduler(student.folder),
        )
        self.pipeline.set_progress_bar_config(disable=True)
        give_times(self.pipeline.scheduler, self.times)
        self.networks: Mapping[str, Any] = {
            "text_encoder": parts["text_encoder"],
            "transformer": parts["transformer"],
            "vae_decoder": parts["vae_decoder"].decoder,
        }

    @property
    def times(self) -> tuple[float, ...]:
        """Of the plan's default number of steps."""
        return tuple(self.plan.times[row] for row in self.plan.rows())

    def draw(self, prompts: Sequence[str], noise: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [B, H, W, 3]."""
        start, *_ = self._place(noise)
        side = start.shape[-1] * self.pipeline.vae_scale_factor
        with torch.no_grad(), given_noise(noise[1:]):
            images = self.pipeline(
                prompt=list(prompts),
                num_inference_steps=len(noise),
                intermediate_timesteps=INTERMEDIATE_TIMESTEP if len(noise) == 2 else None,
                guidance_scale=self.plan.guidance,
                height=side,
                width=side,
                latents=start,
                use_resolution_binning=False,
                output_type="np",
            ).images
        pictures: npt.NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
        return pictures

    def _place(self, noise: npt.NDArray[np.float32]) -> list[torch.Tensor]:
        """Noise [steps, B, *latents] as one tensor a step."""
        return [torch.from_numpy(each).to(self.device) for each in noise]


def _load_network(student: Student, role: str, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """A stock network, whole, in one type.

    Raises:
        InputError: the stock class refuses what lies in the folder.
    """
    component, files = student.components[role], find_files(student, role)
    if files is None:
        return materialize(component.module, component.weights, dtype, device)
    folder, stem = files
    named: dict[str, Any] = {"torch_dtype": dtype}
    if role == "text_encoder":
        named = {"dtype": dtype, "attn_implementation": ATTENTION}
    variant = choose_variant(folder, stem, student.variant) or None
    try:
        with hush():
            network = CLASSES[role].from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **named)
    except Exception as error:  # the stock classes raise all kinds
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: {CLASSES[role].__name__} itself cannot load it ({said})") from error
    if role == "transformer":
        embed_second_time(network, student)
        network.get_submodule("time_embed").to(dtype)
    real: torch.nn.Module = network.eval().to(device)
    return real
