"""Folds that a fixed time and a fixed guidance allow, for any family: what they make constant goes into the weights beside it.

The algebra is general (an affine-free norm, a scale and shift, a matmul; a matmul, a gate); which modules it applies to is a
family's business. Each rule wraps weight handles in weight handles, computes in at least float32 and is exact.
Source of adaLN: arXiv 2212.09748; the folds are measured against diffusers in float64 in tests/test_specialize.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sprint_export.errors import InputError
from sprint_export.weights import Handle, LazyHandle, constant, widen_dtype


def fold_scale_shift(weights: Mapping[str, Handle], layer: str, scale: torch.Tensor, shift: torch.Tensor) -> dict[str, Handle]:
    """y = W (n * (1 + scale) + shift) + b  =  W diag(1 + scale) n + (b + W shift).

    Always fires: W may be a Linear [out, in] or a 1x1 convolution [out, in, 1, 1] (no border, so the shift stays constant).

    Raises:
        InputError: the layer's kernel is larger than 1x1; a shift would meet the zero padding at the border.
    """
    weight, bias = weights[f"{layer}.weight"], weights.get(f"{layer}.bias")
    if any(size != 1 for size in weight.shape[2:]):
        raise InputError(f"{layer}: cannot fold a shift into a {weight.shape[2:]} kernel; expected a Linear or 1x1 convolution")
    tail, dtype = (1,) * len(weight.shape[2:]), widen_dtype(weight.dtype)

    shifted: list[torch.Tensor] = []  # W shift of the last load: who writes both reads the weight once

    def folded_weight() -> torch.Tensor:
        value = weight.load().to(dtype)
        shifted[:] = [value.flatten(1) @ shift.to(dtype)]
        return value * (1 + scale.to(dtype)).reshape(1, -1, *tail)

    def folded_bias() -> torch.Tensor:
        added = shifted.pop() if shifted else weight.load().to(dtype).flatten(1) @ shift.to(dtype)
        return added if bias is None else added + bias.load().to(widen_dtype(bias.dtype))

    return {
        f"{layer}.weight": LazyHandle(weight.shape, dtype, folded_weight),
        f"{layer}.bias": LazyHandle((weight.shape[0],), dtype, folded_bias),
    }


def fold_gate(weights: Mapping[str, Handle], layer: str, gate: torch.Tensor) -> dict[str, Handle]:
    """gate * (W x + b)  =  (diag(gate) W) x + gate * b.

    Always fires: a gate scales output rows only, which a per-output-channel quantizer absorbs. Without a bias there is no
    second term.
    """
    folded: dict[str, Handle] = {}
    for name in ("weight", "bias"):
        handle = weights.get(f"{layer}.{name}")
        if handle is not None:
            folded[f"{layer}.{name}"] = _scale_rows(handle, gate)
    return folded


def _scale_rows(handle: Handle, gate: torch.Tensor) -> LazyHandle:
    dtype = widen_dtype(handle.dtype)

    def compute() -> torch.Tensor:
        value = handle.load().to(dtype)
        return value * gate.to(value.dtype).reshape(-1, *(1,) * (value.ndim - 1))

    return LazyHandle(handle.shape, dtype, compute)


def tabulate(rows: list[torch.Tensor]) -> LazyHandle:
    """One row of modulation values per step, [steps, ...]; the graph gathers by step index instead of computing them."""
    return constant(torch.stack(rows))
