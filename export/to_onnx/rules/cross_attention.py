"""Softmax attention with its heads split at rank 3 instead of rank 4 with a batch of 1.

    softmax(q k^T + bias) v,   q [H, S, d],  k, v [H, T, d],  each a view of [1, S or T, H d]
The values are the same. At rank 4 TensorRT for RTX writes q, k and v once more in another order, which splits the norm before
it into two kernels with float32 between; at rank 3 the attention kernel reads them with strides where they are. ONNX Runtime's
FusedMatMul, too, takes the transposes of rank 3 into the product, and those of rank 4 not.

Covered: as many heads for k and v as for q, a bias [1 or B, 1, 1 or S, T]; each row of a batch by itself. Anything else is left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, shape_of
from sprint_export.export.to_onnx.rule import PatternRule

SPLIT_HEADS = (0, 2, 1, 3)  # [B, N, H, d] <-> [B, H, N, d]
SWAP_LAST = (0, 1, 3, 2)


def split_heads(op: Any, x: Any, name: str | None = None) -> Any:
    """[B, N, H d] -> [B, H, N, d] in a pattern."""
    return op.Transpose(op.Reshape(x, ANY_VALUE), perm=SPLIT_HEADS, _outputs=[name])


def join_heads(op: Any, x: Any, name: str | None = None) -> Any:
    """[B, H, N, d] -> [B, N, H d] in a pattern."""
    return op.Reshape(op.Transpose(x, perm=SPLIT_HEADS), ANY_VALUE, _outputs=[name])


class SoftmaxAttention(PatternRule):
    """What holds of q [B, S, H d], k and v [B, T, H d] and the bias, whatever becomes of them."""

    serves = "masked attention"

    def attend(self, op: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
        """The formula, in a pattern."""
        keys = op.Transpose(split_heads(op, k, "k_heads"), perm=SWAP_LAST)
        scores = op.Add(op.MatMul(split_heads(op, q, "q_heads"), keys), bias, _outputs=["biased"])
        return join_heads(op, op.MatMul(op.Softmax(scores), split_heads(op, v, "v_heads")))

    def check(self, *args: Any, **values: Any) -> bool:
        rows = {shape_of(values[name])[0] if len(shape_of(values[name])) == 3 else None for name in "qkv"}
        heads = {shape_of(values[name])[1:2] for name in ("q_heads", "k_heads", "v_heads")}
        fits = shape_of(values["bias"])[:2] in {(1, 1), (*rows, 1)}
        return len(rows) == len(heads) == 1 and all(isinstance(count, int) for count in rows) and fits


class CrossAttention(SoftmaxAttention):
    """The attention at rank 3."""

    def pattern(self, op: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
        return self.attend(op, q, k, v, bias)

    def rewrite(
        self, op: GraphEditor, q: ir.Value, k: ir.Value, v: ir.Value, bias: ir.Value, q_heads: ir.Value, **_: ir.Value
    ) -> ir.Value:
        heads = extent(q_heads, 1)
        return op.each_row(lambda *row: self._attend_row(op, row, heads), q, k, v, bias)

    def _attend_row(self, op: GraphEditor, row: Sequence[ir.Value], heads: int) -> ir.Value:
        q, k, v, bias = row
        queries, rows = shape_of(q)[1], shape_of(k)[1]
        size, wide = extent(q, 2) // heads, extent(v, 2) // heads
        q = op.transpose(op.reshape(q, (queries, heads, size)), (1, 0, 2))
        k = op.transpose(op.reshape(k, (rows, heads, size)), (1, 2, 0))
        v = op.transpose(op.reshape(v, (rows, heads, wide)), (1, 0, 2))
        p = op.Softmax(op.Add(op.MatMul(q, k), op.reshape(bias, shape_of(bias)[1:])), axis=-1)
        return op.reshape(op.transpose(op.MatMul(p, v), (1, 0, 2)), (1, queries, heads * wide))


RULE = CrossAttention
