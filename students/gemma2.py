"""Gemma-2 as a prompt encoder: token ids in, the kept rows of the last hidden state out.

    prompt_embeds = h[:, [0, L - keep + 1, ..., L - 1]]    (BOS and the last keep - 1 of L positions; diffusers' select_index)

The mask input is gone. Padding is on the right and attention is causal, so padded positions cannot reach valid rows; the
rows they do change are hidden by the transformer's cross-attention mask. Attention is the eager form on purpose: it is the one
that applies Gemma-2's soft cap (transformers' SDPA drops it; tests/students/test_gemma2.py measures the difference).

Half precision holds nothing beyond 65504, and a norm squares its input: 256 is too much already. A norm does not care how its
input is scaled, so what feeds one is scaled down, exactly (powers of two), in weights that are there anyway:
    residual stream / R:    what the embedding gives / R, gain of both post-norms / R, eps of the norms that read it / R^2
    input of post-norms / P:    o_proj / P, down_proj / P, eps of the post-norms / P^2
Norms take the sum of squares, not its mean: eps D / R^2 is a number half precision holds, eps / R^2 is not, and it outweighs
the squares of a quiet prompt. The sqrt(D) that is then missing is in the gain.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Gemma2Config, Gemma2Model
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from sprint_export.weights import Handle, LazyHandle, constant

ATTENTION = "eager"
HIDDEN = -10000.0  # a bias that hides a position and that half precision can hold
RESIDUAL = 32.0  # R: published Gemma-2 checkpoints reach a few thousand in the residual stream; squares fit up to 8,000
PROJECTED = 8.0  # P: smaller, because it makes the weights smaller too, and the scales of 8-bit weights
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")


def make_gemma2(config: Mapping[str, Any]) -> Gemma2Model:
    """The stock model on `meta`, with eager attention."""
    with torch.device("meta"):
        gemma = Gemma2Model(Gemma2Config(**{k: v for k, v in config.items() if k != "_attn_implementation"}))
    gemma.set_attn_implementation(ATTENTION)
    return gemma.eval()


def rotary_handles(config: Mapping[str, Any]) -> dict[str, Handle]:
    """The rotary frequencies, a buffer no checkpoint stores: theta^(-2i/d), float32 [head_dim / 2]."""
    head_dim = config.get("head_dim", 256)
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / (config.get("rope_theta", 10000.0) ** exponents)
    return {"rotary_emb.inv_freq": constant(frequencies)}


def bias_handles(config: Mapping[str, Any], length: int) -> dict[str, Handle]:
    """Attention biases float32 [1, 1, L, L]: position i sees j <= i and, in the sliding layers, j > i - window."""
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    hidden = {"full_bias": distance < 0, "sliding_bias": (distance < 0) | (distance >= config.get("sliding_window", 4096))}
    return {name: constant(torch.where(value, HIDDEN, 0.0)[None, None]) for name, value in hidden.items()}


def rotation_handles(config: Mapping[str, Any], length: int) -> dict[str, Handle]:
    """Cosines and sines of all positions, float32 [1, L, head_dim]: constants, because the length is."""
    frequencies = rotary_handles(config)["rotary_emb.inv_freq"].load()
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)[None]
    return {"rotary_emb.cos": constant(angles.cos()), "rotary_emb.sin": constant(angles.sin())}


def fold_text_range(weights: Mapping[str, Handle], layers: int) -> dict[str, Handle]:
    """The weights that change when the residual stream is divided by R and post-norm inputs by P; norms become gains sqrt(D).

    Gemma stores a norm's gain as w = gain - 1, which cannot be scaled without losing bits in 16-bit types; stored is the gain.
    """
    folded = {"norm.weight": _make_gain(weights["norm.weight"], 1.0)}
    for layer in (f"layers.{i}" for i in range(layers)):
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            folded[f"{layer}.{name}"] = _scale(weights[f"{layer}.{name}"], 1 / PROJECTED)
        for name in ("input_layernorm", "pre_feedforward_layernorm"):
            folded[f"{layer}.{name}.weight"] = _make_gain(weights[f"{layer}.{name}.weight"], 1.0)
        for name in POST_NORMS:
            folded[f"{layer}.{name}.weight"] = _make_gain(weights[f"{layer}.{name}.weight"], 1 / RESIDUAL)
    return folded


def _scale(handle: Handle, factor: float) -> Handle:
    return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() * factor)


def _make_gain(handle: Handle, factor: float) -> Handle:
    dtype = torch.float64 if handle.dtype == torch.float64 else torch.float32
    factor *= math.sqrt(handle.shape[0])
    return LazyHandle(handle.shape, dtype, lambda: (1.0 + handle.load().to(dtype)) * factor)


class GainNorm(torch.nn.Module):
    """Stands in for Gemma2RMSNorm: x (gain sqrt(D)) / sqrt(sum(x^2) + eps D), in at least float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.floor = torch.nn.Parameter(torch.empty(width, device="meta")), eps * width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., width] -> the same shape and dtype."""
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + self.floor) * self.weight).to(x.dtype)


class FixedRotation(torch.nn.Module):
    """Stands in for Gemma2RotaryEmbedding: returns the stored tables instead of computing them."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, length: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("cos", torch.empty(1, length, head_dim, device="meta"))
        self.register_buffer("sin", torch.empty(1, length, head_dim, device="meta"))

    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tables in the hidden states' dtype; `positions` is 0..L-1 always."""
        return self.cos.to(hidden.dtype), self.sin.to(hidden.dtype)


class PromptEncoder(torch.nn.Module):
    """input_ids int64 [B, L] -> prompt_embeds float32 [B, keep, hidden]."""

    def __init__(self, model: Gemma2Model, tokens: int, keep: int) -> None:
        super().__init__()
        self.model, self.keep = copy.deepcopy(model), keep
        for name, norm in list(self.model.named_modules()):
            if isinstance(norm, Gemma2RMSNorm):
                scale = PROJECTED if name.endswith(POST_NORMS) else RESIDUAL
                self.model.set_submodule(name, GainNorm(norm.weight.shape[0], norm.eps / scale**2))
        self.model.rotary_emb = FixedRotation(tokens, model.config.head_dim)
        self.register_buffer("full_bias", torch.empty(1, 1, tokens, tokens, device="meta"))
        self.register_buffer("sliding_bias", torch.empty(1, 1, tokens, tokens, device="meta"))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode with the fixed causal biases, and keep the rows the transformer reads."""
        masks = {"full_attention": self.full_bias, "sliding_attention": self.sliding_bias}
        # Not in the table's weights: their 8-bit scales would fall below what half precision resolves.
        embeds = self.model.embed_tokens(input_ids) * (1 / RESIDUAL)
        hidden = self.model(inputs_embeds=embeds, attention_mask=masks, use_cache=False).last_hidden_state
        first_kept = input_ids.shape[1] - self.keep + 1
        return torch.cat([hidden[:, :1], hidden[:, first_kept:]], dim=1).float()
