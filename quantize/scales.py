"""The arithmetic of a scale: one definition for the fake-quantized reference and for the exported bytes.

    scale = round_to_graph_type(amax / qmax)          q(x) = clip(round(x / scale), qmin, qmax)          x' = q(x) scale
Rounding is to the nearest even integer for INT8 and to the nearest E4M3 value for FP8. Values are clipped before the FP8
cast: what a plain cast makes of values beyond 448 is NaN in ml_dtypes and 448 in torch 2.13.
"""

from __future__ import annotations

import torch

from sprint_export.schema import FLOAT_DTYPES, Precision, QuantizedLayer

SMALLEST_AMAX = 1e-6  # an input that was never anything but zero still needs a positive scale


def input_scale(layer: QuantizedLayer) -> torch.Tensor:
    """The activation's scale, a float32 scalar that the graph's type holds exactly."""
    return _round(torch.tensor(max(layer.input_amax, SMALLEST_AMAX)) / layer.precision.qmax, layer.scale_dtype)


def weight_scale(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """Scales of a weight [out, in, ...]: float32 [out] for weight_axis 0, a scalar for None."""
    magnitude = weight.float().abs()
    amax = magnitude.amax() if layer.weight_axis is None else magnitude.flatten(1).amax(1)
    return _round(amax.clamp_min(SMALLEST_AMAX) / layer.precision.qmax, layer.scale_dtype)


def quantize_tensor(value: torch.Tensor, scale: torch.Tensor, precision: Precision) -> torch.Tensor:
    """q(x) in the precision's storage type; a vector of scales belongs to axis 0."""
    if scale.ndim:
        scale = scale.reshape(-1, *(1,) * (value.ndim - 1))
    scaled = value.float() / scale
    if not precision.is_float:
        scaled = scaled.round()
    return scaled.clamp(precision.qmin, precision.qmax).to(getattr(torch, precision.storage))


def fake_quantize(value: torch.Tensor, scale: torch.Tensor, precision: Precision) -> torch.Tensor:
    """x' = q(x) scale, in the value's own dtype."""
    wide = scale.reshape(-1, *(1,) * (value.ndim - 1)) if scale.ndim else scale
    return (quantize_tensor(value, scale, precision).float() * wide).to(value.dtype)


def _round(scale: torch.Tensor, dtype: str) -> torch.Tensor:
    graph_type = getattr(torch, FLOAT_DTYPES[dtype])
    return scale.to(graph_type).float().clamp_min(torch.finfo(graph_type).tiny)  # float16 would round the smallest to zero
