"""A Qwen language model as a prompt encoder: token ids in, the residual stream after a layer out, the template's beginning held.

    rows = h_n [B, T, hidden]    n layers of the stock model; hidden_states[-2] is n = all but one, without the final norm
Padding is on the right and attention is causal, so there is no mask input: rows of padding are whatever they are, and who reads
rows hides them. The N positions of the template before the prompt see no prompt: their keys, values and rows are constants,
computed by these very layers when the first of them is pulled, one layer's weights in memory at a time.

Norms, attention and rotation tables are gemma2.py's. What differs: norms of queries and keys a head where the stock model has
them, no soft cap, no norm after attention and feed-forward. So the residual stream is divided by R in what writes to it:
    the embedding's rows, v_proj and up_proj with their biases, o_proj's bias    / R
    eps of the norms that read it                                                / R^2
Each is linear where it is scaled (attention in its values, the gated product in up), R is a power of two, and the rows come out
as h_n / R: half precision holds them, and a norm that reads them divides its eps by R^2.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import Qwen3Config, Qwen3Model
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from sprint_export.students.networks.gemma2 import (
    ATTENTION,
    FixedRotation,
    GainNorm,
    Heads,
    PromptAttention,
    Rotation,
    bias_handles,
    count_unused,
    rotation_handles,
)
from sprint_export.weights import Handle, LazyHandle, materialize, widen_dtype

RESIDUAL = 64.0  # R: a stream of 16,000 (massive activations of language models) has squares that half precision holds
HEAD_NORMS = ("q_norm", "k_norm")
STREAM_NORMS = ("input_layernorm", "post_attention_layernorm")
SCALED = ("self_attn.v_proj.weight", "self_attn.v_proj.bias", "self_attn.o_proj.bias", "mlp.up_proj.weight")


def make_qwen3(config: Mapping[str, Any]) -> Qwen3Model:
    """The stock model with eager attention: parameters on `meta`, the few values it computes from its config in memory."""
    with torch.device("meta"):
        model = Qwen3Model(Qwen3Config.from_dict(dict(config), attn_implementation=ATTENTION))
    model.rotary_emb = Qwen3RotaryEmbedding(model.config)
    return model.eval()


class PromptLayer(torch.nn.Module):
    """Stands in for a decoder layer, its parts by its names."""

    def __init__(self, stock: Any, prefix: int) -> None:
        super().__init__()
        stock = copy.deepcopy(stock)
        self.self_attn: PromptAttention = PromptAttention(stock.self_attn, prefix)
        self.mlp: Any = stock.mlp
        for name in HEAD_NORMS:
            norm = getattr(self.self_attn, name)
            if not isinstance(norm, torch.nn.Identity):
                setattr(self.self_attn, name, GainNorm(norm.weight.shape[0], norm.variance_epsilon))
        self.input_layernorm, self.post_attention_layernorm = (
            GainNorm(norm.weight.shape[0], norm.variance_epsilon / RESIDUAL**2)
            for norm in (getattr(stock, name) for name in STREAM_NORMS)
        )

    def forward(self, x: torch.Tensor, rotation: Rotation, bias: torch.Tensor) -> torch.Tensor:
        """Residual stream [B, S, D], tables [1, S, d], bias [1, 1, S, prefix + S] -> the residual stream after this layer."""
        return self.finish(x, self.project(x, rotation), bias)

    def project(self, x: torch.Tensor, rotation: Rotation) -> Heads:
        """Residual stream [B, S, D] -> its queries, keys and values."""
        return self.self_attn.project(self.input_layernorm(x), rotation)

    def finish(self, x: torch.Tensor, heads: Heads, bias: torch.Tensor) -> torch.Tensor:
        """Residual stream and its heads -> the residual stream after this layer."""
        x = x + self.self_attn.attend(heads, bias)
        result: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return result


class PromptEncoder(torch.nn.Module):
    """input_ids int64 [B, T - N] -> rows [B, T, hidden] / R; without a held prefix int64 [B, T].

    Args:
        stock: the stock model on `meta`, a Qwen3Model or a model of its layout.
        layers: n, how many of its layers are computed.
        tokens: T.
        held: N; 0 where all positions are computed.
    """

    full_bias: torch.Tensor
    prefix_rows: torch.Tensor  # [1, N, hidden]

    def __init__(self, stock: Any, layers: int, tokens: int, held: int) -> None:
        super().__init__()
        unused, rows = count_unused(tokens) if held else 0, tokens - held
        vocabulary, width = stock.embed_tokens.weight.shape
        self.held = held
        self.embed_tokens = torch.nn.Embedding(vocabulary, width, device="meta")
        self.layers = torch.nn.ModuleList(PromptLayer(layer, unused + held) for layer in stock.layers[:layers])
        self.rotary_emb = FixedRotation(rows, stock.layers[0].self_attn.head_dim)
        self.register_buffer("full_bias", torch.empty(1, 1, rows, unused + tokens, device="meta"))
        if held:
            self.register_buffer("prefix_rows", torch.empty(1, held, width, device="meta"))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Rows in the type of the weights."""
        x = self.encode(input_ids)
        return torch.cat([self.prefix_rows.expand(x.shape[0], -1, -1), x], dim=1) if self.held else x

    def encode(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The computed rows alone [B, T - N, hidden] / R."""
        # Not in the table's weights: their 8-bit scales would fall below what half precision resolves.
        x = self.embed_tokens(input_ids) * (1 / RESIDUAL)
        rotation = self.rotary_emb(x)
        for layer in self.layers:
            x = layer(x, rotation, self.full_bias)
        rows: torch.Tensor = x
        return rows


def fold_encoder(stock: Any, weights: Mapping[str, Handle], layers: int, tokens: int, ids: tuple[int, ...]) -> dict[str, Handle]:
    """The weights of a PromptEncoder from the stock model's; the prefix's `ids` are run when what they leave is pulled."""
    kept = tuple(f"layers.{i}." for i in range(layers))
    folded = {name: handle for name, handle in weights.items() if name.startswith((*kept, "embed_tokens."))}
    for i in range(layers):
        for leaf in SCALED:
            if (path := f"layers.{i}.{leaf}") in folded:
                folded[path] = divide(folded[path], RESIDUAL)
        for norm in (*STREAM_NORMS, *(f"self_attn.{name}" for name in HEAD_NORMS)):
            path = f"layers.{i}.{norm}.weight"
            if path in folded:
                folded[path] = make_gain(folded[path])
    unused = count_unused(tokens) if ids else 0
    fixed = rotation_handles(stock.rotary_emb, tokens, len(ids)) | bias_handles(tokens, tokens, len(ids), unused)
    return folded | fixed | (PrefixRun(stock, folded, layers, ids, unused).handles() if ids else {})


def divide(handle: Handle, power: float) -> Handle:
    """A weight divided by a power of two, which its own type holds."""
    return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() / power)


def make_gain(gain: Handle) -> Handle:
    """A norm's gain w [width] as a GainNorm holds it: w sqrt(width)."""
    dtype = widen_dtype(gain.dtype)
    return LazyHandle(gain.shape, dtype, lambda: gain.load().to(dtype) * math.sqrt(gain.shape[0]))


class PrefixRun:
    """Handles of what the template's beginning leaves behind: keys and values by layer, and its rows, of one computation."""

    def __init__(self, stock: Any, folded: Mapping[str, Handle], layers: int, ids: tuple[int, ...], unused: int) -> None:
        self._stock, self._folded, self._layers, self._ids, self._unused = stock, folded, layers, ids, unused
        self._dtype = widen_dtype(folded["embed_tokens.weight"].dtype)

    def handles(self) -> dict[str, Handle]:
        """Under the names PromptEncoder gives its buffers; nothing is computed yet."""
        attention = self._stock.layers[0].self_attn
        heads = self._stock.config.num_key_value_heads
        shape, width = (1, heads, self._unused + len(self._ids), attention.head_dim), self._stock.embed_tokens.weight.shape[1]
        found: dict[str, Handle] = {
            "prefix_rows": LazyHandle((1, len(self._ids), width), self._dtype, lambda: self._values[-1][0])
        }
        for i in range(self._layers):
            for kind, name in enumerate(("prefix_keys", "prefix_values")):
                found[f"layers.{i}.self_attn.{name}"] = LazyHandle(
                    shape,
                    self._dtype,
                    lambda kind=kind, i=i: self._values[i][kind],  # type: ignore[misc]
                )
        return found

    @cached_property
    def _values(self) -> list[tuple[torch.Tensor, ...]]:
        """(keys, values) of each layer, then the rows alone."""
        length = len(self._ids)
        bias = bias_handles(length, length)["full_bias"].load().to(self._dtype)
        cos, sin = (handle.load().to(self._dtype) for handle in rotation_handles(self._stock.rotary_emb, length).values())
        found: list[tuple[torch.Tensor, ...]] = []
        with torch.no_grad():
            x = self._folded["embed_tokens.weight"].load()[list(self._ids)].to(self._dtype)[None] * (1 / RESIDUAL)
            for i in range(self._layers):
                path = f"layers.{i}."
                own = {name.removeprefix(path): value for name, value in self._folded.items() if name.startswith(path)}
                layer: Any = materialize(PromptLayer(self._stock.layers[i], 0), own, self._dtype)
                heads = layer.project(x, (cos, sin))
                found.append(tuple(pad(value, (0, 0, self._unused, 0)) for value in heads[1:]))
                x = layer.finish(x, heads, bias)
        return [*found, (x,)]
