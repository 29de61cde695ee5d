"""The stock SanaSprintPipeline of a TwinFlow student: of another program's folder, or kept open to be timed (whole_stock.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import SanaSprintPipeline
from diffusers.models.normalization import AdaLayerNormSingle
from torch import nn

from sprint_export.nouns.student import Student
from sprint_export.students.sana_sprint import stock_folder
from sprint_export.students.sana_sprint.prompt import human_instruction
from sprint_export.students.sana_sprint.two_times import HELD

Float32 = npt.NDArray[np.float32]


class JoinedTimes(nn.Module):
    """TwoTimes at t' = 0 (two_times.py): a time embedder that another program may have quantized, and the student's second."""

    def __init__(self, first: nn.Module, second: nn.Module, scale: float) -> None:
        super().__init__()
        self.first, self.second, self.scale = first, second, scale

    def forward(self, timestep: torch.Tensor, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """t [B] -> (six rows [B, 6 D], embedded time [B, D])."""
        rows, embedded = self.first(self.scale * timestep, **named)
        added, added_embedded = self.second(torch.zeros_like(timestep), **named)
        ahead = timestep[:, None].to(rows.dtype)
        return rows + ahead * added, embedded + ahead * added_embedded


def open_folder(student: Student, folder: Path) -> SanaSprintPipeline:
    """Over another program's folder; the second time embedder, which stock classes leave out, is the student's.

    Raises:
        InputError: a stock class cannot load what lies in it.
    """
    pipeline = stock_folder.open_stock(student, folder)
    config, weights = student.configs["transformer"], student.components["transformer"].weights
    second = AdaLayerNormSingle(config["num_attention_heads"] * config["attention_head_dim"])
    second.load_state_dict({name.removeprefix(HELD): weights[name].load().float() for name in weights if name.startswith(HELD)})
    transformer: Any = pipeline.transformer
    transformer.time_embed = JoinedTimes(transformer.time_embed, second.eval(), config["timestep_scale"])
    return pipeline


def sample_stock(pipeline: Any, prompts: Sequence[str], noise: Sequence[torch.Tensor], times: Sequence[float]) -> Float32:
    """Pictures in [0, 1], float32 [B, H, W, 3], of noise [B, C, h, w] for each time, as the reference samples them.

    The networks compute in the transformer's type, all else in the noise's.
    """
    (x, *later), dtype = noise, pipeline.transformer.dtype
    with torch.no_grad():
        embeds, mask = pipeline.encode_prompt(list(prompts), device=x.device, complex_human_instruction=human_instruction())
        for step, t in enumerate(times):
            now = torch.full((len(prompts),), t, device=x.device)
            velocity = pipeline.transformer(x.to(dtype), embeds, timestep=now, encoder_attention_mask=mask).sample
            clean = x - t * velocity.float()
            if later:
                s = times[step + 1]
                x = (1 - s) * clean + s * later.pop(0)
        image = pipeline.vae.decode(clean.to(dtype) / pipeline.vae.config.scaling_factor).sample
    pictures: Float32 = pipeline.image_processor.postprocess(image, output_type="np")
    return pictures


def draw_stock(pipeline: Any, prompts: Sequence[str], noise: Float32, times: Sequence[float]) -> Float32:
    """The same of noise [steps, B, *latents], one prompt after the other: of several, shorter ones would be padded."""
    placed = torch.from_numpy(noise)
    each = (sample_stock(pipeline, [prompt], list(placed[:, i : i + 1]), times) for i, prompt in enumerate(prompts))
    return np.concatenate(list(each))
