"""A convolution's weight scales, one an output channel, move from the weight to behind the convolution.

    conv(x, s_c W) + b_c   =   (128 s_c) conv(x, W / 128) + b_c              W int8 or FP8, s_c its scale per output channel

TensorRT for RTX 1.7 (measured, SM89) fuses a convolution whose weight has a single scale, and writes 16 bits. With a scale per
channel it writes float32 and a second kernel rescales: at 1024 x 1024 x 128 that is 805 MB instead of 403. In this form the
convolution has a single scale, a constant, and the two factors and the bias are done by the elementwise kernel that reads
its result anyway (SiLU and Q; norm, residual and Q): a scale per channel at the price of one per tensor.

128 is a power of two, so no digit changes; W / 128 keeps results within the input's magnitude times the number of taps.
Covered: Conv with a DequantizeLinear weight of one scale per output channel. Left alone: a weight of one scale, and a
convolution whose result leaves the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, bias_of, extent, is_constant, only_user, shape_of
from sprint_export.export.to_onnx.rule import PatternRule

STEPS = 128.0


class ScaleAfterConv(PatternRule):
    """The convolution stays; its weight's scale is replaced, and its readers read what is behind it."""

    removes = False

    def pattern(self, op: Any, x: Any, weight: Any, scale: Any, zero: Any) -> Any:
        restored = op.DequantizeLinear(weight, scale, zero, _outputs=["restored"])
        return op.Conv(x, restored, _allow_other_inputs=True, _outputs=["y"])

    def check(self, scale: ir.Value, restored: ir.Value, y: ir.Value, **_: ir.Value) -> bool:
        return is_constant(scale) and len(shape_of(scale)) == 1 and only_user(restored) is not None and not y.is_graph_output()

    def rewrite(self, op: GraphEditor, scale: ir.Value, zero: ir.Value, restored: ir.Value, y: ir.Value, **_: ir.Value) -> None:
        conv, dequantize, bias, readers = op.before, restored.producer(), bias_of(y), list(y.uses())
        assert dequantize is not None
        factor = _column(op, scale, STEPS)
        dequantize.replace_input_with(1, _single(op, scale, 1.0 / STEPS))
        dequantize.replace_input_with(2, _single(op, zero, 0.0))
        del dequantize.attributes["axis"]
        result = op.Mul(y, factor, _name="scaled")
        multiply = result.producer()
        assert multiply is not None
        if bias is not None:
            conv.resize_inputs(2)
            result = op.Add(result, _column(op, bias, 1.0), _name="biased")
        for use in readers:
            use.node.replace_input_with(use.idx, result)
        op.graph.remove(conv)  # and put back in front of what was written in front of it
        op.graph.insert_before(multiply, conv)


def _column(op: GraphEditor, value: ir.Value, factor: float) -> ir.Value:
    """An initializer [C] times a factor as [1, C, 1, 1]."""
    shape = (1, extent(value, 0), 1, 1)
    return op.view(f"{value.name}.column", value, shape, lambda array: array.reshape(shape) * array.dtype.type(factor))


def _single(op: GraphEditor, value: ir.Value, number: float) -> ir.Value:
    """One number in the type of a constant that it replaces."""
    assert value.dtype is not None
    return op.shared(f"{value.name}.single", np.full((), number, value.dtype.numpy()))


RULE = ScaleAfterConv
