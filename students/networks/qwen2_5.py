"""Qwen2.5-VL's language model as a prompt encoder: what networks/qwen3.py computes, with the final norm, and the kept rows alone.

    prompt_embeds = norm(h_L)[:, N:]    N positions of the template before the prompt, which the stock pipeline drops
Without a picture the three positions of its rotary embeddings are one, so the model is a Qwen2Model, names and all. `visual` and
`lm_head` are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2Model
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from sprint_export.students.networks.gemma2 import ATTENTION, GainNorm
from sprint_export.students.networks.qwen3 import RESIDUAL, PromptEncoder, fold_encoder, make_gain
from sprint_export.weights import Handle

LANGUAGE = ("model.language_model.", "language_model.", "model.")  # before its names in a checkpoint, the longest first
UNREAD = ("visual.", "model.visual.", "lm_head.")  # what a prompt never meets


def make_qwen2(config: Mapping[str, Any]) -> Qwen2Model:
    """The stock model with eager attention: parameters on `meta`, the few values it computes from its config in memory."""
    plain = dict(config) | {"rope_scaling": None}  # its sections are of three positions
    with torch.device("meta"):
        model = Qwen2Model(Qwen2Config.from_dict(plain, attn_implementation=ATTENTION))
    model.rotary_emb = Qwen2RotaryEmbedding(model.config)
    return model.eval()


def name_weights(weights: Mapping[str, Handle]) -> dict[str, Handle]:
    """A checkpoint's weights under the language model's names, those of `visual` and `lm_head` left out."""
    named: dict[str, Handle] = {}
    for name, handle in weights.items():
        if not name.startswith(UNREAD):
            start = next((start for start in LANGUAGE if name.startswith(start)), "")
            named[name.removeprefix(start)] = handle
    return named


class RowsEncoder(PromptEncoder):
    """input_ids int64 [B, T - held] -> prompt_embeds float32 [B, keep, hidden]: the last rows, normed.

    Args:
        stock: a Qwen2Model on `meta`.
        tokens: T.
        keep: how many rows.
        held: positions whose keys and values are constants, none of them kept; 0 where all are computed.
    """

    def __init__(self, stock: Any, tokens: int, keep: int, held: int) -> None:
        super().__init__(stock, len(stock.layers), tokens, held)
        self.keep = keep
        self._buffers.pop("prefix_rows", None)
        self.norm = GainNorm(stock.norm.weight.shape[0], stock.norm.variance_epsilon / RESIDUAL**2)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode and keep what the transformer reads."""
        rows: torch.Tensor = self.norm(self.encode(input_ids)[:, -self.keep :])
        return rows.float()


def fold_rows(stock: Any, weights: Mapping[str, Handle], tokens: int, ids: tuple[int, ...]) -> dict[str, Handle]:
    """The weights of a RowsEncoder from the stock model's."""
    folded = fold_encoder(stock, weights, len(stock.layers), tokens, ids)
    folded.pop("prefix_rows", None)
    return folded | {"norm.weight": make_gain(weights["norm.weight"])}
