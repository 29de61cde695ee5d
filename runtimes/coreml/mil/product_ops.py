"""Ops that multiply and accumulate: linear, matmul, conv, attention. Sums are float32, the result is rounded once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sprint_export.runtimes.coreml.mil.arguments import Arguments, Function

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _linear(given: Arguments) -> Tensor:
    return F.linear(given.tensor("x"), given.tensor("weight"), given.maybe("bias"))


def _matmul(given: Arguments) -> Tensor:
    x, y = given.tensor("x"), given.tensor("y")
    x = x.mT if given.number("transpose_x", False) else x
    y = y.mT if given.number("transpose_y", False) else y
    return x @ y


def _einsum(given: Arguments) -> Tensor:
    return torch.einsum(given.text("equation", ""), *given.tensors("values"))


def _conv(given: Arguments) -> Tensor:
    """x [B, C, spatial], weight [out, C / groups, kernel]; `pad` lists (before, after) per spatial axis."""
    x, weight = given.tensor("x"), given.tensor("weight")
    rank = x.ndim - 2
    strides, dilations = given.numbers("strides", [1] * rank), given.numbers("dilations", [1] * rank)
    pad = _find_pad(given, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    x = F.pad(x, [amount for before_after in reversed(pad) for amount in before_after])
    result: Tensor = CONV[rank](x, weight, given.maybe("bias"), strides, 0, dilations, given.number("groups", 1))
    return result


def _find_pad(
    given: Arguments, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> list[tuple[int, int]]:
    kind = given.text("pad_type", "valid")
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        amounts = given.numbers("pad", [0] * 2 * len(sizes))
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    if kind not in ("same", "same_lower"):
        raise given.refuse(f"pad_type {kind!r}")
    pads = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (width - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if kind == "same" else (more, less))
    return pads


def _attention(given: Arguments) -> Tensor:
    """softmax(Q K^T / sqrt(E) + mask) V; a boolean mask is true where an element takes part."""
    query, key, value = (given.tensor(name) for name in ("query", "key", "value"))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    mask = given.maybe("attn_mask")
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ value


OPS: dict[str, Function] = {
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "conv": _conv,
    "scaled_dot_product_attention": _attention,
}
