"""Linear attention in 16 bits, its denominator a column of its numerator.

    S = k^T [v 1]  in R^(d x (d + 8))         [num den] = q S         y = num / (den + eps)
for q, k >= 0 of each head. The eight ones (one would do; 16 bytes are a unit of memory) make S carry the sum of keys, so the
denominator costs neither a reduction over tokens nor one over heads. Products run in the graph's 16-bit type, which is safe
because keys carry 1 / N (the family folds it: sums are means) and a gemm accumulates in float32 whatever its operands are;
the graph before it holds q, k, v and S in float32. Heads are split at rank 3, [N, H, d] to [H, N, d]: at rank 4 with a batch of
1 TensorRT for RTX copies each operand instead of reading it with strides.

Covered: the form below, each row of a batch by itself, tokens whose number is known. Other forms are left alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE, OrValue

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, number_of, only_user, shape_of
from sprint_export.export.to_onnx.rule import Pattern, PatternRule
from sprint_export.export.to_onnx.rules.cross_attention import SWAP_LAST, join_heads, split_heads

ONES = 8  # columns of ones: 16 bytes in a 16-bit type


class LinearAttention(PatternRule):
    """The form: q, k before ReLU and v are [B, N, D], and so is what comes out."""

    serves = "linear attention"

    def pattern(self, op: Any, q: Any, k: Any, v: Any, epsilon: Any) -> Any:
        q, k = op.Relu(_widened_heads(op, q), _outputs=["q_heads"]), op.Relu(_widened_heads(op, k))
        numerator = op.MatMul(q, op.MatMul(op.Transpose(k, perm=SWAP_LAST), _widened_heads(op, v)))
        denominator = op.ReduceSum(op.Mul(q, op.ReduceSum(k, ANY_VALUE)), ANY_VALUE)
        return join_heads(op, op.Div(numerator, op.Add(denominator, epsilon)), "joined")

    def narrowed(self, op: Any, q: Any, k: Any, v: Any, epsilon: Any) -> Any:
        """In a 16-bit graph."""
        return op.Cast(self.pattern(op, q, k, v, epsilon), _outputs=["narrow"])

    def patterns(self) -> Sequence[Pattern]:
        return self.narrowed, self.pattern

    def check(self, q: ir.Value, epsilon: ir.Value, joined: ir.Value, **values: ir.Value) -> bool:
        is_whole = "narrow" in values or only_user(joined, "Cast") is None
        return is_whole and number_of(epsilon) is not None and all(isinstance(size, int) for size in shape_of(q)[:1])

    def rewrite(
        self, op: GraphEditor, q: ir.Value, k: ir.Value, v: ir.Value, epsilon: ir.Value, q_heads: ir.Value, **_: ir.Value
    ) -> ir.Value:
        heads = measure_heads(q, q_heads)
        return op.each_row(lambda *row: self.attend(op, row, number_of(epsilon), heads), q, k, v)

    @abstractmethod
    def attend(self, op: GraphEditor, row: Sequence[ir.Value], epsilon: float | None, heads: tuple[int, int]) -> ir.Value:
        """What comes of one row's q, k and v, [1, N, D] each; `heads`: how many, and how wide one is."""


class SixteenBits(LinearAttention):
    """The products in the graph's own type."""

    def check(self, q: ir.Value, epsilon: ir.Value, joined: ir.Value, **values: ir.Value) -> bool:
        return super().check(q, epsilon, joined, **values) and isinstance(shape_of(q)[1], int)

    def attend(self, op: GraphEditor, row: Sequence[ir.Value], epsilon: float | None, heads: tuple[int, int]) -> ir.Value:
        (q, k, v), (count, size) = row, heads
        tokens = extent(q, 1)
        q, k = op.Relu(q), op.Relu(k)
        q, k, v = (op.reshape(value, (tokens, count, size)) for value in (q, k, v))
        shape = (tokens, count, ONES)
        ones = op.Expand(op.filled(1.0, v.dtype, (1, 1, 1)), op.ints(shape), _shape=shape)
        v = op.Concat(v, ones, _shape=(tokens, count, size + ONES), axis=2)
        q, k, v = op.transpose(q, (1, 0, 2)), op.transpose(k, (1, 2, 0)), op.transpose(v, (1, 0, 2))
        summary = op.MatMul(k, v)
        y = op.transpose(op.MatMul(q, summary), (1, 0, 2))
        numerator, denominator, _unused = op.split(y, (size, 1, ONES - 1))
        denominator = op.Add(denominator, op.filled(epsilon, y.dtype))
        return op.reshape(op.Div(numerator, denominator), (1, tokens, count * size))


def measure_heads(q: ir.Value, q_heads: ir.Value) -> tuple[int, int]:
    """How many heads there are, and how wide one is."""
    return extent(q_heads, 1), extent(q, 2) // extent(q_heads, 1)


def _widened_heads(op: Any, x: Any) -> Any:
    """[1, N, D] -> [1, H, N, d] in float32, in a pattern."""
    heads = split_heads(op, x)
    return OrValue([op.Cast(heads), heads])


RULE = SixteenBits
