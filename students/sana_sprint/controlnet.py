"""SANA's ControlNet with its time path gone, and the transformer that takes its residuals.

    x  = patch(latents) + input_block(patch(control))          7 or so copies of the transformer's first blocks on x
    residual_i = scale * controlnet_blocks_i(x behind block i)  added to the transformer's tokens behind its block i + 1
The two patches are one convolution of latents and control together (`fold_control`). Time is folded as the transformer's is; the
ControlNet has neither a guidance embedding nor a norm of queries and keys. Residuals are zeros where no control is given, which
adds nothing: the picture is the plain one.
Source: diffusers' SanaControlNetModel and SanaTransformer2DModel.forward(controlnet_block_samples=...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from sprint_export.nouns.student import Component, StepPlan
from sprint_export.students.folding import tabulate
from sprint_export.students.sana_sprint.folds import block_rows, fold_attention_scale, fold_blocks, fold_key_range, position_table
from sprint_export.students.sana_sprint.transformer import OneStepSana, SanaTokens
from sprint_export.weights import Handle, LazyHandle, constant, widen_dtype


class ControlResiduals(SanaTokens):
    """(latents, source_latents, prompt_embeds, prompt_mask, control_scale[, step]) -> residuals float32 [B, L D, h, w]."""

    def __init__(self, config: Mapping[str, Any], steps: int) -> None:
        super().__init__(config, steps, 2 * config["in_channels"])
        width, layers = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]
        self.controlnet_blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        if not self.fold:
            self.register_buffer("modulation", torch.empty(steps, 6 * layers, width))

    def forward(
        self,
        latents: torch.Tensor,
        source_latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        prompt_mask: torch.Tensor,
        control_scale: torch.Tensor,
        step: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Latents float [B, C, h, w], prompt_embeds [B, T, E], prompt_mask int64 [B, T], control_scale [B], step int64 [1]."""
        table = self.find_rows(step)
        x, height, width = self.embed(torch.cat([latents, source_latents], dim=1))
        text, bias = self.read_text(prompt_embeds, prompt_mask)
        residuals = []
        for i, (block, control) in enumerate(zip(self.transformer_blocks, self.controlnet_blocks, strict=True)):
            x = block(x, text, bias, height, None if table is None else table[6 * i : 6 * i + 6])
            residuals.append(control(x))
        tokens = torch.cat(residuals, dim=2).transpose(1, 2)
        images = cast(torch.Tensor, tokens.unflatten(2, (height, width)))
        return images.to(latents.dtype) * control_scale.reshape(-1, 1, 1, 1)


class ControlledSana(OneStepSana):
    """(latents, prompt_embeds, prompt_mask, control_residuals[, step]) -> denoised, as `OneStepSana`."""

    def forward(  # type: ignore[override]  # an input more
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        prompt_mask: torch.Tensor,
        control_residuals: torch.Tensor,
        step: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `OneStepSana`, with control_residuals float [B, L D, h, w]."""
        residuals = control_residuals.split(self.proj_out.in_features, dim=1)
        return self.denoise(latents, prompt_embeds, prompt_mask, step, residuals)


def fold_control(
    component: Component, config: Mapping[str, Any], plan: StepPlan, latent_shape: tuple[int, ...]
) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The specialized ControlNet's weights, and a note per rule.

    W z + b + p + U (W c + b + p) + u  =  [W, U W] [z; c] + (b + U b + u) + (p + U p)     z latents, c control, p positions
    """
    weights, layers = component.weights, config["num_layers"]
    gone = ("time_embed.", "patch_embed.", "input_block.")
    folded = {k: v for k, v in weights.items() if not k.startswith(gone) and "scale_shift_table" not in k}
    folded |= _join_patches(weights)
    if config["interpolation_scale"] is not None:
        folded["positions"] = _add_projected(constant(position_table(config)), weights["input_block.weight"])
    tables = [torch.cat(block_rows(component, layers, s)[0]) for s in plan.times]  # each [6 L, D]
    folded |= fold_attention_scale(weights, config)
    joined = "control: its projection and both patch embeddings are one convolution"
    ranged = f"range: keys of {layers} linear attentions scaled by 1 / N"
    timed = f"time path: {len(plan.times)} tables gathered by step (a fold serves one step only)"
    if len(plan.times) > 1:
        folded["modulation"] = tabulate(tables)
    else:
        folded |= fold_blocks(weights, tables[0], layers)
        timed = f"time path: {6 * layers} modulation vectors folded into {6 * layers} layers"
    return folded | fold_key_range(folded, config, latent_shape), (joined, timed, ranged)


def _join_patches(weights: Mapping[str, Handle]) -> dict[str, Handle]:
    """One convolution of latents and control together."""
    patch, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    projection, added = weights["input_block.weight"], weights["input_block.bias"]
    dtype = widen_dtype(patch.dtype)

    def join() -> torch.Tensor:
        value = patch.load().to(dtype)
        return torch.cat([value, torch.einsum("ed,dcyx->ecyx", projection.load().to(dtype), value)], dim=1)

    def add() -> torch.Tensor:
        value = bias.load().to(dtype)
        return value + projection.load().to(dtype) @ value + added.load().to(dtype)

    shape = (patch.shape[0], 2 * patch.shape[1], *patch.shape[2:])
    return {
        "patch_embed.proj.weight": LazyHandle(shape, dtype, join),
        "patch_embed.proj.bias": LazyHandle(bias.shape, dtype, add),
    }


def _add_projected(positions: Handle, projection: Handle) -> Handle:
    """p + U p of positions [1, N, D]."""
    dtype = widen_dtype(projection.dtype)

    def add() -> torch.Tensor:
        value = positions.load().to(dtype)
        return value + value @ projection.load().to(dtype).T

    return LazyHandle(positions.shape, dtype, add)
