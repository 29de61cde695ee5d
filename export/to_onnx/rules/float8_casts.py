"""A FP8 activation is widened by a Cast and a Mul, so that ONNX Runtime takes no layer for one of its integer products.

    DequantizeLinear(q, s)  =  s cast(q)         q FP8, s one float: the same products, bit for bit
ONNX Runtime 1.21 to 1.31 fuses DequantizeLinear, DequantizeLinear and MatMul into MatMulIntegerToFloat without looking at their
types, then refuses that operator FP8 and with it the graph ("Type 'tensor(float8e4m3fn)' ... is invalid"). 1.32 looks. A product
with one DequantizeLinear, its weight's, is no pattern of any version; weights keep theirs and so stay a byte a value in memory.
Some fusions move s behind the product (FusedMatMul's alpha), which is why it is no slower.
Covered: every Q/DQ pair in FP8 on an activation, per tensor. A weight's DequantizeLinear is left alone.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, is_constant
from sprint_export.export.to_onnx.rule import PatternRule

FLOAT8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)


class Float8Casts(PatternRule):
    """The DequantizeLinear of every FP8 activation."""

    def pattern(self, op: Any, q: Any, scale: Any) -> Any:
        return op.DequantizeLinear(q, scale, _allow_other_inputs=True, _outputs=["restored"])

    def check(self, q: ir.Value, **_: ir.Value) -> bool:
        return q.dtype in FLOAT8 and not is_constant(q)

    def rewrite(self, op: GraphEditor, q: ir.Value, scale: ir.Value, restored: ir.Value) -> ir.Value:
        dtype = restored.dtype
        assert dtype is not None
        wide = op.Cast(q, _like=restored, _dtype=dtype, _name="cast", to=int(dtype))
        return op.Mul(wide, scale, _like=restored, _name="scaled")


RULE = Float8Casts
