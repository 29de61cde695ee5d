"""A depthwise 3x3 convolution as nine scaled shifts, which the builder fuses with what stands around it.

    y[c, i, j] = b[c] + sum over (u, v) of w[c, u, v] x[c, i + u - 1, j + v - 1],     x = 0 outside
As a convolution it is a kernel of its own between two elementwise ones, each of which moves the 5760-wide tensor of a
feed-forward once more: SiLU 25.4, convolution 25.5, gate and Q 16.6 us on the price list for an RTX 4090. As shifts all three
are one generated kernel of 17.5 us that writes one byte a value.

What the price leaves out: SiLU may be computed up to nine times a value (53 M evaluations a block at 1024 px; 10 to 20 us of an
RTX 4090's special function units, beside the memory traffic), and neighbours are read nine times, from cache. Not timed on a GPU.
Covered: stride 1, padding 1, no dilation, one filter a channel, a picture of known size. Weights are cut lazily.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, bias_of, extent, is_constant, shape_of, view_tensor
from sprint_export.export.to_onnx.rule import PatternRule

KERNEL = 3


class DepthwiseTaps(PatternRule):
    """Every depthwise 3x3 convolution."""

    serves = "gated convolution"

    def pattern(self, op: Any, x: Any, weight: Any) -> Any:
        plain = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}
        return op.Conv(x, weight, _allow_other_inputs=True, _outputs=["y"], **plain)

    def check(self, x: ir.Value, weight: ir.Value, y: ir.Value) -> bool:
        shape, node = shape_of(weight), y.producer()
        is_depthwise = node is not None and node.attributes["group"].as_int() == shape[0]
        is_fixed = len(shape_of(y)) == 4 and all(isinstance(size, int) for size in shape_of(y))
        return is_depthwise and shape[1:] == (1, KERNEL, KERNEL) and is_constant(weight) and is_fixed

    def rewrite(self, op: GraphEditor, x: ir.Value, weight: ir.Value, y: ir.Value) -> ir.Value:
        batch, channels, height, width = shape = [extent(y, axis) for axis in range(4)]
        padded = (batch, channels, height + KERNEL - 1, width + KERNEL - 1)
        bordered = op.Pad(x, op.ints((1, 1, 1, 1)), op.filled(0.0, y.dtype), op.ints((2, 3)), _shape=padded, _dtype=y.dtype)
        total: ir.Value | None = None
        for u, v in product(range(KERNEL), repeat=2):
            window = [op.ints((u, v)), op.ints((u + height, v + width)), op.ints((2, 3))]
            shifted = op.Slice(bordered, *window, _shape=shape)
            term = op.Mul(shifted, op.constant(_tap(weight, u, v)))
            total = term if total is None else op.Add(total, term)
        assert total is not None
        bias = bias_of(y)
        return total if bias is None else op.Add(total, op.reshape(bias, (1, channels, 1, 1)))


def _tap(weight: ir.Value, u: int, v: int) -> ir.LazyTensor:
    """w[:, 0, u, v] as [1, C, 1, 1]."""
    return view_tensor(weight.const_value, (1, shape_of(weight)[0], 1, 1), lambda array: array[:, :, u, v].reshape(1, -1, 1, 1))


RULE = DepthwiseTaps
