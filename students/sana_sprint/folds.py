"""SANA-Sprint's transformer specialized: which fold of folding.py applies to which layer, in weights that stay lazy.

One step folds the whole time path away; more steps keep a table a step. Two folds hold for any number of steps: the scale of
cross-attention, and the range of linear attention (half precision cannot hold a sum over all tokens).
Source: arXiv 2503.09641; measured against diffusers in float64 by tests/test_specialize.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed

from sprint_export.nouns.student import Component, StepPlan, Student
from sprint_export.students.folding import fold_gate, fold_scale_shift, tabulate
from sprint_export.weights import Handle, constant, materialize, widen_dtype


def fold_transformer(student: Student, plan: StepPlan) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The specialized transformer's weights, and a note per rule that says what it did."""
    component, config = student.components["transformer"], student.configs["transformer"]
    weights, layers = component.weights, config["num_layers"]
    gone = ("time_embed.", "patch_embed.pos_embed")
    folded = {k: v for k, v in weights.items() if not k.startswith(gone) and "scale_shift_table" not in k}
    tables = [modulation_table(component, config, s, plan.guidance) for s in plan.times]  # each [6 L + 2, D]
    folded["times"] = constant(torch.tensor(plan.times, dtype=tables[0].dtype))
    if config["interpolation_scale"] is not None:
        folded["positions"] = constant(position_table(config))
    folded |= fold_attention_scale(weights, config)
    ranged = f"range: keys of {layers} linear attentions scaled by 1 / N"
    if len(plan.times) > 1:
        folded["modulation"] = tabulate(tables)
        folded |= fold_key_range(folded, config, student.latent_shape)
        return folded, (f"time path: {len(plan.times)} tables gathered by step (a fold serves one step only)", ranged)
    folded |= fold_blocks(weights, tables[0], layers)
    folded |= fold_scale_shift(weights, "proj_out", tables[0][-1], tables[0][-2])
    folded |= fold_key_range(folded, config, student.latent_shape)
    return folded, (f"time path: {6 * layers + 2} modulation vectors folded into {6 * layers + 1} layers", ranged)


def fold_blocks(weights: Mapping[str, Handle], table: torch.Tensor, layers: int) -> dict[str, Handle]:
    """Scale, shift and gate of every block in its layers; `table` has six rows a block."""
    folded: dict[str, Handle] = {}
    for i in range(layers):
        block = f"transformer_blocks.{i}"
        shift, scale, gate, ff_shift, ff_scale, ff_gate = table[6 * i : 6 * i + 6]
        for layer in ("to_q", "to_k", "to_v"):
            folded |= fold_scale_shift(weights, f"{block}.attn1.{layer}", scale, shift)
        folded |= fold_gate(weights, f"{block}.attn1.to_out.0", gate)
        folded |= fold_scale_shift(weights, f"{block}.ff.conv_inverted", ff_scale, ff_shift)
        folded |= fold_gate(weights, f"{block}.ff.conv_point", ff_gate)
    return folded


def fold_key_range(weights: Mapping[str, Handle], config: Mapping[str, Any], latent_shape: tuple[int, ...]) -> dict[str, Handle]:
    """(q . sum k v) / (q . sum k): keys times 1 / N make both sums means, which half precision holds; the ratio stays.

    ReLU passes a positive factor on, so it goes into the keys: into the gain of their norm or, where there is none, a gain of its
    own. Not into the projection, whose weights would leave half precision (5e-5 at 64 x 64 latents). N is rounded up to a power
    of two, and the fold is exact.
    """
    positions = latent_shape[1] * latent_shape[2] // config["patch_size"] ** 2
    width = config["num_attention_heads"] * config["attention_head_dim"]
    factor = torch.full((width,), 2.0 ** -math.ceil(math.log2(positions)), dtype=torch.float64)
    keys = [f"transformer_blocks.{i}.attn1.norm_k" for i in range(config["num_layers"])]
    if config.get("qk_norm") is None:
        return {f"{key}.weight": constant(factor.float()) for key in keys}
    folded: dict[str, Handle] = {}
    for key in keys:
        folded |= fold_gate(weights, key, factor)
    return folded


def fold_attention_scale(weights: Mapping[str, Handle], config: Mapping[str, Any]) -> dict[str, Handle]:
    """softmax(q k^T / sqrt(d)): 1 / sqrt(d) goes into the weights that make q, where 16 bits do not round it alone."""
    width = config["num_cross_attention_heads"] * config["cross_attention_head_dim"]
    scale = torch.full((width,), config["cross_attention_head_dim"] ** -0.5, dtype=torch.float64)
    last = "norm_q" if config.get("qk_norm") is not None else "to_q"
    folded: dict[str, Handle] = {}
    for i in range(config["num_layers"]):
        folded |= fold_gate(weights, f"transformer_blocks.{i}.attn2.{last}", scale)
    return folded


def modulation_table(component: Component, config: Mapping[str, Any], s: float, guidance: float) -> torch.Tensor:
    """[6 L + 2, D]: six rows a block (shift, scale, gate; twice), then the output's shift and scale, at time s."""
    rows, embedded = block_rows(component, config["num_layers"], s, guidance, config["guidance_embeds_scale"])
    return torch.cat([*rows, component.weights["scale_shift_table"].load().to(embedded.dtype) + embedded])


def block_rows(
    component: Component, layers: int, s: float, guidance: float | None = None, guidance_scale: float = 1.0
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """[6, D] of each block, and what is embedded, [1, D], at time s and, of networks that embed one, a guidance.

    Runs the stock time embedding once, so its sinusoids and roundings are diffusers' own.
    """
    prefix = "time_embed."
    handles = {k.removeprefix(prefix): v for k, v in component.weights.items() if k.startswith(prefix)}
    dtype = widen_dtype(next(iter(handles.values())).dtype)
    module = materialize(component.module.get_submodule("time_embed"), handles, dtype)
    given = {} if guidance is None else {"guidance": torch.tensor([guidance], dtype=dtype) * guidance_scale}
    with torch.no_grad():
        # diffusers registers timestep_scale but never reads it (0.39), so s goes in as it is
        six, embedded = module(torch.tensor([s], dtype=torch.float32), hidden_dtype=dtype, **given)
    tables = (component.weights[f"transformer_blocks.{i}.scale_shift_table"] for i in range(layers))
    return [table.load().to(dtype) + six.reshape(6, -1) for table in tables], embedded


def position_table(config: Mapping[str, Any]) -> torch.Tensor:
    """Sine-cosine positions float32 [1, N, D], as diffusers' PatchEmbed computes them for its native size."""
    width, side = config["num_attention_heads"] * config["attention_head_dim"], config["sample_size"] // config["patch_size"]
    table: torch.Tensor = get_2d_sincos_pos_embed(
        width, side, base_size=side, interpolation_scale=config["interpolation_scale"], output_type="pt"
    )
    return table.float().unsqueeze(0)
