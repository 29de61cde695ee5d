"""Gemma-2 as a prompt encoder: token ids in, the kept rows of the last hidden state out.

    prompt_embeds = h[:, [0, L - keep + 1, ..., L - 1]]    (BOS and the last keep - 1 of L positions; diffusers' select_index)

The mask input is gone. Padding is on the right and attention is causal, so padded positions cannot reach valid rows; the
rows they do change are hidden by the transformer's cross-attention mask. Attention is the eager form on purpose: it is the one
that applies Gemma-2's soft cap (transformers' SDPA drops it; tests/students/test_gemma2.py measures the difference).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Gemma2Config, Gemma2Model

from sprint_export.weights import Handle, constant

ATTENTION = "eager"
HIDDEN = -10000.0  # a bias that hides a position and that half precision can hold


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
        self.model.rotary_emb = FixedRotation(tokens, model.config.head_dim)
        self.register_buffer("full_bias", torch.empty(1, 1, tokens, tokens, device="meta"))
        self.register_buffer("sliding_bias", torch.empty(1, 1, tokens, tokens, device="meta"))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode with the fixed causal biases, and keep the rows the transformer reads."""
        masks = {"full_attention": self.full_bias, "sliding_attention": self.sliding_bias}
        hidden = self.model(input_ids=input_ids, attention_mask=masks, use_cache=False).last_hidden_state
        first_kept = input_ids.shape[1] - self.keep + 1
        return torch.cat([hidden[:, :1], hidden[:, first_kept:]], dim=1).float()
