"""The arithmetic of a scale: one definition for the fake-quantized reference and for the exported bytes.

    scale = round_scale(amax / qmax)          q(x) = clip(round(x / scale), qmin, qmax)          x' = q(x) scale
Rounding is to the nearest even integer for INT8 and to the nearest E4M3 value for FP8. Values are clipped before the FP8
cast: what a plain cast makes of values beyond 448 is NaN in ml_dtypes and 448 in torch 2.13. A palette has no scale
(quantize/palettes.py), and what is nothing but zeros has scale 1. A dynamic scale is that of the values it rounds, for every
token or block of channels, in float32.

A scale has the digits of its type, but a weight's may lie below the type's smallest normal number, which half precision reaches
at weights of 0.008: a file then holds scale 2^e, and 2^-e is multiplied behind the layer (`find_lift`). An input's may not
(`holds_input`): quantize_student leaves such a layer float and says so.
"""

from __future__ import annotations

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.quantize.schemes.formats import Format
from sprint_export.quantize.schemes.scheme import load_scheme

LACK_FLOAT8 = ("mps",)
MOST_LIFT = {"fp16": 2.0**14}  # 2^-e is a normal number too; steps of 2^-28 are finer than half precision's own, 2^-24


def input_scale(layer: QuantizedLayer) -> torch.Tensor:
    """The activation's measured scale, a float32 scalar that the graph's type holds exactly."""
    assert layer.input_amax is not None, "a layer whose weight alone is compressed has no input scale"
    return _activation_scale(layer.input_amax, layer)


def output_scale(layer: QuantizedLayer) -> torch.Tensor:
    """The same of what the layer gives."""
    assert layer.output_amax is not None, "a layer whose output is not rounded has no output scale"
    return _activation_scale(layer.output_amax, layer)


def input_format(layer: QuantizedLayer) -> Format:
    """What a layer's input, and its output where that is rounded, are rounded to."""
    inputs = load_scheme(layer.scheme).inputs
    assert inputs is not None, f"{layer.scheme} leaves inputs in float"
    return inputs.format


def _activation_scale(amax: float, layer: QuantizedLayer) -> torch.Tensor:
    return round_scale(_divide(torch.tensor(amax), input_format(layer)), layer.scale_dtype)


def holds_input(amax: float, layer: QuantizedLayer) -> bool:
    """Whether the graph's type holds the scale of an activation of that largest magnitude with all its digits."""
    return amax == 0 or amax / input_format(layer).qmax >= smallest_normal(layer.scale_dtype)


def weight_scale(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """Scales of a weight [out, in, ...] as its scheme has them, float32: a scalar, [out], or [out, in / group]."""
    return load_scheme(layer.scheme).weight_scale(weight, layer)


def measure_scale(weight: torch.Tensor, layer: QuantizedLayer, format: Format) -> torch.Tensor:
    """By the largest magnitudes: float32 [out] for weight_axis 0, [out, in / group] with a group, a scalar for None."""
    if layer.weight_axis is None:
        amax = find_largest(weight, tuple(range(weight.ndim)))
    elif layer.group:
        amax = find_largest(weight.unflatten(1, (-1, layer.group)).flatten(2), (2,))
    else:
        amax = find_largest(weight, tuple(range(1, weight.ndim)))
    return round_scale(_divide(amax, format), layer.scale_dtype)


def find_largest(value: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """The largest magnitude over these axes, float32; a copy of all magnitudes would take ten times as long."""
    return torch.maximum(value.amax(axes), -value.amin(axes)).float()


def quantize_tensor(value: torch.Tensor, scale: torch.Tensor, format: Format) -> torch.Tensor:
    """q(x) in the format's storage type, on the CPU where the device has none; scales are as `spread_scale` takes them."""
    scaled = _round_scaled(value, scale, format)
    scaled = scaled.cpu() if format.is_float and scaled.device.type in LACK_FLOAT8 else scaled
    return scaled.to(getattr(torch, format.storage))


def fake_quantize(value: torch.Tensor, scale: torch.Tensor, format: Format) -> torch.Tensor:
    """x' = q(x) scale, in the value's own dtype."""
    if format.is_float:
        rounded = quantize_tensor(value, scale, format).float().to(value.device)
    else:  # whole numbers are what their storage holds
        rounded = _round_scaled(value, scale, format)
    return rounded.mul_(spread_scale(scale, value)).to(value.dtype)


def _round_scaled(value: torch.Tensor, scale: torch.Tensor, format: Format) -> torch.Tensor:
    """x / scale in float32, clipped, and rounded where q is a whole number; in place: a picture's activations are half a GB."""
    scaled = value.float() / spread_scale(scale, value)
    return (scaled if format.is_float else scaled.round_()).clamp_(format.qmin, format.qmax)


def round_dynamically(value: torch.Tensor, layer: QuantizedLayer, axis: int) -> torch.Tensor:
    """x' with a scale for every token's channels on `axis`, or for every block of them, taken from the values themselves."""
    inputs = load_scheme(layer.scheme).inputs
    assert inputs is not None and inputs.is_dynamic
    blocks = value.float().movedim(axis, -1).unflatten(-1, (-1, inputs.block or value.shape[axis]))
    scale = (blocks.abs().amax(-1, keepdim=True) / inputs.format.qmax).clamp_min(smallest_normal(layer.scale_dtype))
    rounded: torch.Tensor = fake_quantize(blocks / scale, torch.ones(()), inputs.format) * scale
    return rounded.flatten(-2).movedim(-1, axis).to(value.dtype)


def split_weight(weight: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """What is stored of a weight, and the branch beside it: A [rank, in], B [out, rank] in values that the graph's type holds."""
    scheme = load_scheme(layer.scheme)
    branch = scheme.branch(weight.double(), layer) if scheme.rank else None  # in float32 the last digits differ by who asks
    if branch is None:
        return weight, None
    down, up = (round_to_graph(factor, layer.scale_dtype) for factor in branch)
    return (weight.double() - (up.double() @ down.double()).reshape(weight.shape)).float(), (down, up)


def round_weight(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """What the exported graph multiplies by in place of a weight, without a branch beside it, in the weight's own dtype."""
    scheme = load_scheme(layer.scheme)
    return scheme.unpack(scheme.pack(split_weight(weight, layer)[0], layer)).to(weight.dtype)


def find_error(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """What a layer computes with, its branch included, less the float weight: float32 [out, in, ...]."""
    scheme, stored = load_scheme(layer.scheme), split_weight(weight, layer)[0].float()
    return scheme.unpack(scheme.pack(stored, layer)) - stored


def spread_scale(scale: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Scales of axis 0, or [rows, blocks] of axes 0 and 1, in a shape that broadcasts with the value, and on its device.

    A GPU would multiply by the reciprocal of a number that lies on the CPU.
    """
    scale = scale.to(value.device)
    if scale.ndim == 2:
        scale = scale.repeat_interleave(value.shape[1] // scale.shape[1], dim=1)
    return scale.reshape(*scale.shape, *(1,) * (value.ndim - scale.ndim)) if scale.ndim else scale


def _divide(amax: torch.Tensor, format: Format) -> torch.Tensor:
    """amax / qmax; 1 for zeros, which any scale holds."""
    return torch.where(amax > 0, amax / format.qmax, 1.0)


def round_scale(scale: torch.Tensor, dtype: str) -> torch.Tensor:
    """A scale with the digits of `dtype` ("fp32", "fp16", "bf16"), also below its smallest normal number where a lift reaches.

    Raises:
        InputError: it is beyond the type's largest number.
    """
    lift = find_lift(scale, dtype)
    rounded = round_to_graph(scale * lift, dtype).clamp_min(smallest_normal(dtype)) / lift
    if not torch.isfinite(rounded).all():
        raise InputError(f"a scale of {scale.max().item():.4g} is beyond {FLOAT_DTYPES[dtype]}; choose a target of another type")
    return rounded


def round_to_graph(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """float32 values that a graph of `dtype` ("fp32", "fp16", "bf16") holds exactly."""
    return value.to(getattr(torch, FLOAT_DTYPES[dtype])).float()


def find_lift(scale: torch.Tensor, dtype: str) -> torch.Tensor:
    """2^e for each scale, e >= 0, that makes it a normal number of `dtype`; at most MOST_LIFT."""
    octaves = torch.frexp(smallest_normal(dtype) / scale).exponent
    return torch.ldexp(torch.ones_like(scale), octaves).clamp(1.0, MOST_LIFT.get(dtype, 1.0))


def smallest_normal(dtype: str) -> float:
    """The smallest number that `dtype` holds with all its digits."""
    return float(torch.finfo(getattr(torch, FLOAT_DTYPES[dtype])).tiny)
