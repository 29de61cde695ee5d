"""Ops that look along axes: norms, reductions, softmax; and quantize and dequantize, whose scale lies along one axis.

layer_norm   (x - mean) / sqrt(var + epsilon) * gamma + beta, over `axes`
batch_norm   (x - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c], c = axis 1
quantize     clip(round(x / scale) + zero_point), halves to even
dequantize   scale * (x - zero_point)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sprint_export.runtimes.coreml.mil.arguments import Arguments, Function

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Function:
    def run(given: Arguments) -> Tensor:
        x = given.tensor("x")
        return function(x, given.numbers("axes", range(x.ndim)), given.number("keep_dims", False))

    return run


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _argument(function: Callable[..., Tensor]) -> Function:
    return lambda given: function(given.tensor("x"), given.number("axis", -1), given.number("keep_dims", False))


def _softmax(given: Arguments) -> Tensor:
    return given.tensor("x").softmax(given.number("axis", -1))


def _layer_norm(given: Arguments) -> Tensor:
    x = given.tensor("x")
    axes = [axis % x.ndim for axis in given.numbers("axes", range(x.ndim))]
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    return _affine(given, centred * (variance + given.number("epsilon", 1e-5)).rsqrt(), shape)


def _batch_norm(given: Arguments) -> Tensor:
    x = given.tensor("x")
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance = given.tensor("mean").reshape(shape), given.tensor("variance").reshape(shape)
    return _affine(given, (x - mean) * (variance + given.number("epsilon", 1e-5)).rsqrt(), shape)


def _instance_norm(given: Arguments) -> Tensor:
    x = given.tensor("x")
    axes = list(range(2, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return _affine(given, centred * (variance + given.number("epsilon", 1e-5)).rsqrt(), [1, -1] + [1] * (x.ndim - 2))


def _affine(given: Arguments, x: Tensor, shape: list[int]) -> Tensor:
    gamma, beta = given.maybe("gamma"), given.maybe("beta")
    x = x if gamma is None else x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)


def _cumsum(given: Arguments) -> Tensor:
    x, axis = given.tensor("x"), given.number("axis", 0)
    reverse = given.number("reverse", False)
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis)
    total = total - x if given.number("exclusive", False) else total
    return total.flip(axis) if reverse else total


def _quantize(given: Arguments) -> Tensor:
    x = given.tensor("input")
    scale, offset = _along_axis(given, x)
    low, high = LIMITS[given.text("output_dtype", given.op.outputs[0].dtype)]
    return ((x / scale).round() + offset).clamp(low, high).to(torch.int32)


def _dequantize(given: Arguments) -> Tensor:
    x = given.tensor("input")
    scale, offset = _along_axis(given, x)
    return scale * (x.to(given.compute) - offset)


def _along_axis(given: Arguments, x: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the zero point, shaped to spread over x."""
    scale = given.tensor("scale")
    offset = given.tensor("zero_point").to(given.compute) if given.has("zero_point") else torch.zeros((), dtype=given.compute)
    shape = [1] * x.ndim
    if scale.ndim:
        shape[given.number("axis")] = -1
    return scale.reshape(shape), offset.reshape(shape if offset.ndim else [1] * x.ndim)


OPS: dict[str, Function] = {
    "reduce_sum": _reduce(lambda x, axes, keep: x.sum(axes, keep)),
    "reduce_mean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "reduce_max": _reduce(lambda x, axes, keep: x.amax(axes, keep)),
    "reduce_min": _reduce(lambda x, axes, keep: x.amin(axes, keep)),
    "reduce_prod": _reduce(_product),
    "reduce_sum_square": _reduce(lambda x, axes, keep: x.square().sum(axes, keep)),
    "reduce_l1_norm": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2_norm": _reduce(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_log_sum_exp": _reduce(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "reduce_argmax": _argument(torch.argmax),
    "reduce_argmin": _argument(torch.argmin),
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "cumsum": _cumsum,
    "quantize": _quantize,
    "dequantize": _dequantize,
}
