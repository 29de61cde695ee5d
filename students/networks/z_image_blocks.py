"""Z-Image's blocks once the time is fixed: four norms, attention with real-valued rotations, a gated feed-forward.

    x = x + norm2(attend(norm1(x)))        x = x + norm2'(w2(silu(w1 y) w3 y)),  y = norm1'(x)
What the time made (1 + scale, tanh(gate)) is in the four gains: in the norms' own for one time, in rows of a table for more.

Rotations. diffusers multiplies pairs of neighbouring channels as complex numbers, which no exporter takes. Here the channels of a
head stand with all first members before all second ones, for queries and keys alike, so their products are the same (the order is
in the weights, `pair_order`), and two halves of a head are turned:  (a, b) -> (a cos - b sin, b cos + a sin)
    channel j of a half is pair j of the axes' in turn (frame, row, column: 16, 24, 24 of 64); angle = position theta^(-2 i / d)

Range. A norm does not care how its input is scaled, and every branch ends in one, so what half precision cannot hold is divided
by powers of two in weights that are there anyway: the residual stream by R (gains of norm2, eps of norm1 / R^2), values and gated
products by P (to_v, w3, eps of norm2 / P^2). The sqrt(D) of a mean that is a sum here is in the gain.
Module names are diffusers'. Shapes: B batch, S tokens, D width, H heads of d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from diffusers.models.transformers.transformer_z_image import RopeEmbedder
from torch import nn
from torch.nn import functional as F

from sprint_export.weights import widen_dtype

Rotation = tuple[torch.Tensor, torch.Tensor]  # cosines and sines [B or 1, S, d / 2]
HEAD_EPS = 1e-5  # of the norms of queries and keys: ZImageTransformerBlock's own, whatever norm_eps is
RESIDUAL = 32.0  # R
PRODUCT = 8.0  # P
HIDDEN = -10000.0  # a bias that hides a position and that half precision can hold
NORMS = ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")  # rows of a table, in this order


class Norm(nn.Module):
    """x gain / sqrt(sum(x^2) + eps D) in at least float32; the gain is its own, or given."""

    def __init__(self, width: int, eps: float, has_gain: bool = True) -> None:
        super().__init__()
        self.floor = eps * width
        self.weight = nn.Parameter(torch.empty(width)) if has_gain else None

    def forward(self, x: torch.Tensor, gain: torch.Tensor | None = None) -> torch.Tensor:
        """x [..., width], gain [width] where the norm has none -> as x."""
        wide = x.to(widen_dtype(x.dtype))
        gain = self.weight if gain is None else gain
        assert gain is not None, "a norm without a gain is given one"
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + self.floor) * gain).to(x.dtype)


class Attention(nn.Module):
    """softmax(q k^T + bias) v; 1 / sqrt(d) is in the weights that make the queries."""

    def __init__(self, width: int, heads: int, normalize: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width, bias=False)])
        self.norm_q, self.norm_k = (Norm(width // heads, HEAD_EPS) if normalize else nn.Identity() for _ in range(2))

    def forward(self, x: torch.Tensor, rotation: Rotation, bias: torch.Tensor | None) -> torch.Tensor:
        """x [B, S, D], bias [B, 1, 1, S] or None -> [B, S, D]."""
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.to_q, self.to_k, self.to_v))
        # Heads are moved last: before norms and rotations TensorRT puts the weights of q, k and v in the order of heads instead,
        # in 16 bits and anew in each run, and the product that makes all three is in 16 bits too.
        q, k = rotate(self.norm_q(q), rotation, 2), rotate(self.norm_k(k), rotation, 2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(2, 3)
        shares = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        return cast(torch.Tensor, self.to_out[0]((shares @ v).transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """w2(silu(w1 x) w3 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = int(width / 3 * 8)  # as ZImageTransformerBlock has it
        self.w1, self.w3 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, S, D] -> the same."""
        return cast(torch.Tensor, self.w2(F.silu(self.w1(x)) * self.w3(x)))


class Block(nn.Module):
    """One block; `has_gains` says whether its norms have gains of their own or are given a table's rows."""

    def __init__(self, width: int, heads: int, eps: float, normalize: bool, has_gains: bool = True) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(width, heads, normalize), FeedForward(width)
        self.attention_norm1, self.ffn_norm1 = (Norm(width, eps / RESIDUAL**2, has_gains) for _ in range(2))
        self.attention_norm2, self.ffn_norm2 = (Norm(width, eps / PRODUCT**2, has_gains) for _ in range(2))

    def forward(
        self, x: torch.Tensor, rotation: Rotation, bias: torch.Tensor | None = None, gains: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x [B, S, D] / R, bias [B, 1, 1, S], gains [4, D] in the order of NORMS -> x after the block, / R."""
        before, after, inner, outer = (None,) * 4 if gains is None else gains
        x = x + self.attention_norm2(self.attention(self.attention_norm1(x, before), rotation, bias), after)
        result: torch.Tensor = x + self.ffn_norm2(self.feed_forward(self.ffn_norm1(x, inner)), outer)
        return result


def rotate(x: torch.Tensor, rotation: Rotation, heads: int = 1) -> torch.Tensor:
    """[B, H, S, d], or another place of the heads' axis -> the same, the halves of each head turned."""
    cos, sin = (table.unsqueeze(heads).to(x.dtype) for table in rotation)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def pair_order(size: int) -> torch.Tensor:
    """Channels of a head [d] as `rotate` wants them: first members of all pairs, then second ones."""
    return torch.arange(size).reshape(-1, 2).t().flatten()


def tabulate_rotations(positions: torch.Tensor, sizes: Sequence[int], theta: float) -> Rotation:
    """Cosines and sines float32 [N, sum(sizes) / 2] of positions int64 [N, axes], diffusers' own to the last digit.

    Args:
        positions: none is negative.
        sizes: channels of each axis, e.g. 32, 48, 48.
        theta: base of the angles.
    """
    tables = RopeEmbedder.precompute_freqs_cis(list(sizes), [int(axis.max()) + 1 for axis in positions.t()], theta)
    turned = torch.cat([table[axis] for table, axis in zip(tables, positions.t(), strict=True)], dim=-1)
    return turned.real.contiguous(), turned.imag.contiguous()


def hide(valid: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """valid int64 [B, S], 1 for what may be read -> bias [B, 1, 1, S]."""
    return ((1 - valid.to(dtype)) * HIDDEN)[:, None, None, :]
