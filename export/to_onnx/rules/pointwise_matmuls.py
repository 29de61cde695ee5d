"""A 1x1 convolution of an INT8 or INT4 weight becomes a MatMul over channels-last pixels.

    y[b, o, h, w] = sum_i W[o, i] x[b, i, h, w] + c[o]     ->     y' = x' W^T + c,  x'[b, h, w, i] = x[b, i, h, w]
On a CPU a MatMul of integers may give floats (MatMulIntegerToFloat), a convolution may not: QLinearConv rounds its output, and
a Conv without a Q behind it dequantizes its weight at every run. A MatMul unpacks 4 bits as it multiplies, too. Transposes come
in pairs here; rules/fewer_transposes.py takes out those that meet another.
Covered: kernel 1x1, stride 1, no padding, one group, a stored INT8 or INT4 weight, an output that is not rounded. Strided ones
stay, and float ones: those are fastest as convolutions, in ONNX Runtime's blocked layout.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import (
    GraphEditor,
    bias_of,
    extent,
    is_constant,
    shape_of,
)
from sprint_export.export.to_onnx.rule import PatternRule

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class PointwiseMatmuls(PatternRule):
    """Every such convolution."""

    removes = False

    def pattern(self, op: Any, x: Any, stored: Any, scale: Any) -> Any:
        restored = op.DequantizeLinear(stored, scale, _allow_other_inputs=True, _outputs=["restored"])
        return op.Conv(x, restored, _allow_other_inputs=True, _outputs=["y"])

    def check(self, stored: ir.Value, y: ir.Value, **_: ir.Value) -> bool:
        is_integer = stored.dtype in (ir.DataType.INT8, ir.DataType.INT4)
        return is_constant(stored) and is_integer and is_pointwise(y.producer())

    def rewrite(self, op: GraphEditor, x: ir.Value, stored: ir.Value, restored: ir.Value, y: ir.Value, **_: ir.Value) -> ir.Value:
        out, inner = extent(stored, 0), extent(stored, 1)
        matrix = op.view(f"{stored.name}.matmul", stored, (inner, out), lambda array: array.reshape(out, inner).T)
        dequantize = restored.producer()
        assert dequantize is not None
        weight = GraphEditor(op.graph, op.before, str(restored.name)).dequantize_transposed(matrix, dequantize, _name="matmul")
        pixels = op.MatMul(op.transpose(x, TO_LAST, "last"), weight, _name="matmul")
        bias = bias_of(y)
        return op.transpose(pixels if bias is None else op.Add(pixels, bias, _name="biased"), TO_FIRST, "first")


def is_pointwise(node: ir.Node | None) -> bool:
    """Dense, 1x1, stride 1, no padding, on a picture whose shape is known; its height and width may be free."""
    assert node is not None
    read = {name: attribute.value for name, attribute in node.attributes.items()}
    plain = set(read.get("strides", [1])) == {1} and set(read.get("pads", [0])) == {0} and read.get("group", 1) == 1
    return plain and shape_of(node.inputs[0]) != () and shape_of(node.inputs[1])[2:] == (1, 1)


RULE = PointwiseMatmuls
