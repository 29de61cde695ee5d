"""Gemma-2 as a prompt encoder: token ids in, the kept rows of the last hidden state out.

    prompt_embeds = h[:, [0, N, ..., L - 1]]    (BOS and the last keep - 1 = L - N of L positions; diffusers' select_index)

The N positions before those, BOS and the instruction, are the same for every prompt and see no prompt: what attention reads of
them and the row of BOS are constants (gemma2_prefix.py), and positions N to L - 1 alone are computed. Without that
cache the graph computes all L.

The mask input is gone. Padding is on the right and attention is causal, so padded positions cannot reach valid rows; the
rows they do change are hidden by the transformer's cross-attention mask. Attention is the eager form on purpose: it is the one
that applies Gemma-2's soft cap (transformers' SDPA drops it; test_gemma2.py measures the difference). The G heads
that share a key are rows of one product, q [B, K, G S, d] . k^T [B, K, d, T], so keys and values are never repeated.

The order of a layer is written here, its parts (projections, norms, activation, rotary frequencies) are the stock model's: its
own forward differs between transformers 4.57 and 5, which scales embeddings elsewhere and renamed what it hands on.

Half precision holds nothing beyond 65504, and a norm squares its input: 256 is too much already. A norm does not care how its
input is scaled, so what feeds one is scaled down, exactly (powers of two), in weights that are there anyway:
    residual stream / R:    what the embedding gives / R, gain of both post-norms / R, eps of the norms that read it / R^2
    input of post-norms / P:    o_proj / P with its bias, down_proj / P, eps of the post-norms / P^2
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
from transformers.models.gemma2.modeling_gemma2 import (
    Gemma2Attention,
    Gemma2DecoderLayer,
    Gemma2RMSNorm,
    Gemma2RotaryEmbedding,
    apply_rotary_pos_emb,
)

from sprint_export.weights import Handle, LazyHandle, constant, widen_dtype

ATTENTION = "eager"
HIDDEN = -10000.0  # a bias that hides a position and that half precision can hold
RESIDUAL = 32.0  # R: published Gemma-2 checkpoints reach a few thousand in the residual stream; squares fit up to 8,000
KEYS = 8  # kernels read 16 bytes at a time: TensorRT copies the scores of a layer twice where their number of keys is no multiple
PROJECTED = 8.0  # P: smaller, because it makes the weights smaller too, and the scales of 8-bit weights
Rotation = tuple[torch.Tensor, torch.Tensor]  # cosines and sines [1, S, d]
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys, values
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")


def make_gemma2(config: Mapping[str, Any]) -> Gemma2Model:
    """The stock model with eager attention: parameters on `meta`, the few values it computes from its config in memory."""
    with torch.device("meta"):
        gemma = Gemma2Model(Gemma2Config.from_dict(dict(config), attn_implementation=ATTENTION))
    gemma.rotary_emb = Gemma2RotaryEmbedding(gemma.config)
    if hasattr(gemma.embed_tokens, "embed_scale"):  # transformers 5
        gemma.embed_tokens.embed_scale = torch.tensor(gemma.embed_tokens.scalar_embed_scale)
    return gemma.eval()


def bias_handles(window: int, length: int, start: int = 0, unused: int = 0) -> dict[str, Handle]:
    """Attention biases float32 [1, 1, S, unused + L] of the S = L - start last positions.

    Position i sees j <= i and, in the sliding layers, j > i - window; nobody sees an unused key. A window that no position
    leaves needs no bias of its own.
    """
    distance = torch.arange(start, length)[:, None] - torch.arange(-unused, length)[None, :]
    hidden = {"full_bias": (distance < 0) | (torch.arange(-unused, length) < 0)}
    if slides(window, length):
        hidden["sliding_bias"] = hidden["full_bias"] | (distance >= window)
    return {name: constant(torch.where(value, HIDDEN, 0.0)[None, None]) for name, value in hidden.items()}


def slides(window: int, length: int) -> bool:
    """Whether a position of that many sees less than all before it in the sliding layers."""
    return window < length


def count_unused(tokens: int) -> int:
    """How many hidden keys of zeros make the number of keys one that kernels like; exp(HIDDEN) is 0 in every type."""
    return -tokens % KEYS


def rotation_handles(rotary: Gemma2RotaryEmbedding, length: int, start: int = 0) -> dict[str, Handle]:
    """Cosines and sines of positions start to L - 1, float32 [1, L - start, head_dim]: constants, because the length is.

    They are what the stock module gives, whatever its config says of frequencies and scaling.
    """
    with torch.no_grad():
        cos, sin = rotary(torch.zeros(1), torch.arange(start, length)[None])
    return {"rotary_emb.cos": constant(cos), "rotary_emb.sin": constant(sin)}


def fold_text_range(weights: Mapping[str, Handle], layers: int) -> dict[str, Handle]:
    """The weights that change when the residual stream is divided by R and post-norm inputs by P; norms become gains sqrt(D).

    Gemma stores a norm's gain as w = gain - 1, which cannot be scaled without losing bits in 16-bit types; stored is the gain.
    """
    folded = {"norm.weight": _make_gain(weights["norm.weight"], 1.0)}
    for layer in (f"layers.{i}" for i in range(layers)):
        for name in ("self_attn.o_proj.weight", "self_attn.o_proj.bias", "mlp.down_proj.weight"):
            if f"{layer}.{name}" in weights:
                folded[f"{layer}.{name}"] = _scale(weights[f"{layer}.{name}"], 1 / PROJECTED)
        for name in ("input_layernorm", "pre_feedforward_layernorm"):
            folded[f"{layer}.{name}.weight"] = _make_gain(weights[f"{layer}.{name}.weight"], 1.0)
        for name in POST_NORMS:
            folded[f"{layer}.{name}.weight"] = _make_gain(weights[f"{layer}.{name}.weight"], 1 / RESIDUAL)
    return folded


def _scale(handle: Handle, factor: float) -> Handle:
    return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() * factor)


def _make_gain(handle: Handle, factor: float) -> Handle:
    dtype = widen_dtype(handle.dtype)
    factor *= math.sqrt(handle.shape[0])
    return LazyHandle(handle.shape, dtype, lambda: (1.0 + handle.load().to(dtype)) * factor)


class GainNorm(torch.nn.Module):
    """Stands in for Gemma2RMSNorm: x (gain sqrt(D)) / sqrt(sum(x^2) + eps D), in at least float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.floor = torch.nn.Parameter(torch.empty(width, device="meta")), eps * width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., width] -> the same shape and dtype."""
        wide = x.to(widen_dtype(x.dtype))
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + self.floor) * self.weight).to(x.dtype)


class FixedRotation(torch.nn.Module):
    """Stands in for Gemma2RotaryEmbedding: returns the stored tables instead of computing them."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, length: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("cos", torch.empty(1, length, head_dim, device="meta"))
        self.register_buffer("sin", torch.empty(1, length, head_dim, device="meta"))

    def forward(self, hidden: torch.Tensor) -> Rotation:
        """Tables in the hidden states' dtype."""
        return self.cos.to(hidden.dtype), self.sin.to(hidden.dtype)


class PromptAttention(torch.nn.Module):
    """Stands in for Gemma2Attention: tanh(q k^T scaling / cap) cap + bias, with constant keys and values before the computed.

    Args:
        stock: whose projections it takes over, and its norms of queries and keys where it has them.
        prefix: how many constant keys there are; 0 for none.
    """

    prefix_keys: torch.Tensor  # [1, K, prefix, d], rotated
    prefix_values: torch.Tensor

    def __init__(self, stock: Gemma2Attention, prefix: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = stock.q_proj, stock.k_proj, stock.v_proj, stock.o_proj
        self.head_dim, self.groups, self.prefix = stock.head_dim, stock.num_key_value_groups, prefix
        self.scaling, self.cap = stock.scaling, getattr(stock, "attn_logit_softcapping", None)
        self.q_norm, self.k_norm = (getattr(stock, name, torch.nn.Identity()) for name in ("q_norm", "k_norm"))
        if prefix:
            shape = (1, stock.config.num_key_value_heads, prefix, stock.head_dim)
            self.register_buffer("prefix_keys", torch.empty(shape, device="meta"))
            self.register_buffer("prefix_values", torch.empty(shape, device="meta"))

    def project(self, x: torch.Tensor, rotation: Rotation) -> Heads:
        """x [B, S, D], tables [1, S, d] -> rotated queries [B, heads, S, d] and keys [B, K, S, d], and values like keys."""
        q, k, v = (
            project(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        return (*apply_rotary_pos_emb(self.q_norm(q), self.k_norm(k), *rotation), v)

    def attend(self, heads: Heads, bias: torch.Tensor) -> torch.Tensor:
        """Heads as `project` gives them, bias [1, 1, S, prefix + S] -> [B, S, D]."""
        q, k, v = heads
        batch, rows = q.shape[0], q.shape[2]
        if self.prefix:
            held = (self.prefix_keys, k), (self.prefix_values, v)
            k, v = (torch.cat((prefix.expand(batch, -1, -1, -1), computed), dim=2) for prefix, computed in held)
        logits = q.reshape(batch, -1, self.groups * rows, self.head_dim) @ k.transpose(2, 3) * self.scaling
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        by_head = logits.reshape(batch, -1, rows, logits.shape[-1]) + bias
        shares = torch.softmax(by_head, dim=-1, dtype=widen_dtype(logits.dtype)).to(v.dtype).reshape(logits.shape)
        joined = (shares @ v).reshape(batch, -1, rows, self.head_dim)
        result: torch.Tensor = self.o_proj(joined.transpose(1, 2).reshape(batch, rows, -1))
        return result


class PromptLayer(torch.nn.Module):
    """Stands in for Gemma2DecoderLayer: its parts by its names, with PromptAttention for the attention."""

    def __init__(self, stock: Gemma2DecoderLayer, prefix: int) -> None:
        super().__init__()
        self.attention_type = stock.self_attn.config.layer_types[stock.self_attn.layer_idx]
        self.self_attn, self.mlp = PromptAttention(stock.self_attn, prefix), stock.mlp
        self.input_layernorm, self.post_attention_layernorm = stock.input_layernorm, stock.post_attention_layernorm
        self.pre_feedforward_layernorm = stock.pre_feedforward_layernorm
        self.post_feedforward_layernorm = stock.post_feedforward_layernorm

    def forward(self, x: torch.Tensor, rotation: Rotation, bias: torch.Tensor) -> torch.Tensor:
        """Residual stream [B, S, D], tables [1, S, d], bias [1, 1, S, prefix + S] -> the residual stream after this layer."""
        return self.finish(x, self.project(x, rotation), bias)

    def project(self, x: torch.Tensor, rotation: Rotation) -> Heads:
        """Residual stream [B, S, D] -> its queries, keys and values."""
        return self.self_attn.project(self.input_layernorm(x), rotation)

    def finish(self, x: torch.Tensor, heads: Heads, bias: torch.Tensor) -> torch.Tensor:
        """Residual stream and its heads -> the residual stream after this layer."""
        x = x + self.post_attention_layernorm(self.self_attn.attend(heads, bias))
        result: torch.Tensor = x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        return result


class PromptModel(torch.nn.Module):
    """Stands in for Gemma2Model, with its names: normalized embeddings in, the last hidden state out.

    Args:
        stock: on `meta`; it is copied.
        rows: how many positions are computed.
        prefix: how many constant keys there are before them.
    """

    def __init__(self, stock: Gemma2Model, rows: int, prefix: int) -> None:
        super().__init__()
        stock = copy.deepcopy(stock)
        self.scale = stock.config.hidden_size**0.5
        vocabulary, width = stock.embed_tokens.weight.shape
        self.embed_tokens = torch.nn.Embedding(vocabulary, width, device="meta")
        layers = [PromptLayer(layer, prefix) for layer in stock.layers]
        self.layers = torch.nn.ModuleList(layers)
        self.norm = stock.norm
        self.rotary_emb = FixedRotation(rows, stock.config.head_dim)
        for name, module in list(self.named_modules()):
            if isinstance(module, Gemma2RMSNorm):
                scale = PROJECTED if name.endswith(POST_NORMS) else RESIDUAL
                self.set_submodule(name, GainNorm(module.weight.shape[0], module.eps / scale**2))

    def forward(self, input_ids: torch.Tensor, biases: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """input_ids int64 [B, S], biases by kind of layer -> [B, S, hidden]."""
        # Not in the table's weights: their 8-bit scales would fall below what half precision resolves.
        x = self.embed_tokens(input_ids) * (1 / RESIDUAL)
        rotation = self.rotary_emb(x)
        x = x * torch.tensor(self.scale, dtype=x.dtype)
        for layer in self.layers:
            assert isinstance(layer, PromptLayer)
            x = layer(x, rotation, biases[layer.attention_type])
        last: torch.Tensor = self.norm(x)
        return last


class PromptEncoder(torch.nn.Module):
    """input_ids int64 [B, L - N] -> prompt_embeds float32 [B, 1 + L - N, hidden]; without a cache int64 [B, L].

    Args:
        model: the stock model on `meta`; it is copied.
        tokens: L.
        keep: 1 + L - N.
        is_cached: whether the first N positions are constants.
    """

    bos_row: torch.Tensor  # [1, 1, hidden]
    full_bias: torch.Tensor
    sliding_bias: torch.Tensor

    def __init__(self, model: Gemma2Model, tokens: int, keep: int, is_cached: bool) -> None:
        super().__init__()
        unused, rows = (count_unused(tokens), keep - 1) if is_cached else (0, tokens)
        self.model, self.keep, self.is_cached = PromptModel(model, rows, unused + tokens - rows), keep, is_cached
        self.slides = slides(model.config.sliding_window, tokens)
        for bias in ("full_bias", "sliding_bias") if self.slides else ("full_bias",):
            self.register_buffer(bias, torch.empty(1, 1, rows, unused + tokens, device="meta"))
        if is_cached:
            self.register_buffer("bos_row", torch.empty(1, 1, model.config.hidden_size, device="meta"))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode with the fixed causal biases, and keep the rows the transformer reads."""
        sliding = self.sliding_bias if self.slides else self.full_bias
        hidden = self.model(input_ids, {"full_attention": self.full_bias, "sliding_attention": sliding})
        first = self.bos_row.expand(hidden.shape[0], -1, -1) if self.is_cached else hidden[:, :1]
        return torch.cat([first, hidden[:, 1 - self.keep :]], dim=1).float()
