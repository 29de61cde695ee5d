"""A MatMul of two quantized tensors is written as the integer product it is, so that ONNX Runtime runs it as one.

    s_x (X - z) . s_w W + b   =   (s_x s_w) cast((X - z) . W) + b      MatMulInteger, Cast, Mul, Add; X [.., K], W [K, N], b [N]
ONNX Runtime fuses those into MatMulIntegerToFloat, bias and all. Left as Q/DQ, MatMul + Add would become a Gemm before Q/DQ is
looked at, and a Gemm with a float bias has no integer kernel: its weight would be dequantized at every run.
s_x s_w must be a product that nobody folds beforehand, or the fusion does not know its factors; DequantizeLinear(1, s_x) is s_x,
and ONNX Runtime leaves a DequantizeLinear of integers unfolded until its fusions are done.
Covered: any rank, with or without bias, one weight scale or one a column. The values are those of the Q/DQ form, summed exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, is_constant, only_user
from sprint_export.export.to_onnx.rule import PatternRule

ONE = "integer.one"
INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8)


class IntegerMatmuls(PatternRule):
    """Every MatMul of an INT8 or UINT8 activation with a stored weight."""

    removes = False

    def pattern(self, op: Any, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any) -> Any:
        restored = op.DequantizeLinear(x, x_scale, x_zero), op.DequantizeLinear(w, w_scale, w_zero)
        return op.MatMul(*restored, _outputs=["product"])

    def check(self, x: ir.Value, w: ir.Value, **_: ir.Value) -> bool:
        return x.dtype in INTEGERS and w.dtype in INTEGERS and is_constant(w)

    def rewrite(
        self, op: GraphEditor, x: ir.Value, w: ir.Value, x_scale: ir.Value, product: ir.Value, **rest: ir.Value
    ) -> ir.Value:
        dtype = x_scale.dtype
        assert dtype is not None
        total = op.MatMulInteger(x, w, rest["x_zero"], rest["w_zero"], _like=product, _dtype=ir.DataType.INT32, _name="int32")
        total = op.Cast(total, _like=product, _dtype=dtype, _name="cast", to=int(dtype))
        factor = op.DequantizeLinear(op.shared(ONE, np.array(1, np.int8)), x_scale, _dtype=dtype, _name="factor")
        scale = op.Mul(factor, rest["w_scale"], _name="scale")
        _put_bias_second(product)
        return op.Mul(total, scale, _like=product, _name="float")


def _put_bias_second(product: ir.Value) -> None:
    """b + x W -> x W + b: the fusion looks for a bias on the right."""
    add = only_user(product, "Add")
    if add is not None and is_constant(add.inputs[0]):
        bias, product_again = add.inputs
        add.replace_input_with(0, product_again)
        add.replace_input_with(1, bias)


RULE = IntegerMatmuls
