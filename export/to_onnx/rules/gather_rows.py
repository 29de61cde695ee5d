"""Read a quantized embedding before restoring it, for runtimes that would restore the whole table at every run.

    Gather(DQ(W_q, s), ids)  =  Cast(Gather(W_q, ids)) Gather(s, ids)        s a scale a row, or one for each block of it
The same arithmetic on the same values, for as many rows as there are ids. ONNX Runtime's CPU restores the 2.4 GB of a large
table otherwise; TensorRT fuses the form on the left and refuses the one on the right.

An ONNX Gather reads whole bytes, so a table of 4 bits is stored in int8, the first half of a row's values in the low halves:
    b = 16 high + low + 8,    high = floor(b / 16),    low = b - 16 high - 8        -8 <= low, high < 8
which is exact in any of the graph's types. Left alone: FP8 tables, which no Gather reads, and 4-bit rows of an odd length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import Array, GraphEditor, Size, extent, shape_of
from sprint_export.export.to_onnx.rule import PatternRule

LOW = 16  # values of half a byte
SLICE = 1 << 12  # rows that are packed together


class GatherRows(PatternRule):
    """Every Gather of a table with scales for its rows."""

    removes = False

    def pattern(self, op: Any, table: Any, scale: Any, ids: Any) -> Any:
        return op.Gather(
            op.DequantizeLinear(table, scale, _allow_other_inputs=True, _outputs=["restored"]), ids, _outputs=["rows"]
        )

    def check(self, table: ir.Value, scale: ir.Value, restored: ir.Value, **_: ir.Value) -> bool:
        node = restored.producer()
        axis = None if node is None else node.attributes.get_int("axis", 1)
        is_read = table.dtype == ir.DataType.INT8 or (table.dtype == ir.DataType.INT4 and extent(table, 1) % 2 == 0)
        return is_read and (len(shape_of(scale)), axis) in ((1, 0), (2, 1))

    def rewrite(
        self, op: GraphEditor, table: ir.Value, scale: ir.Value, ids: ir.Value, rows: ir.Value, **_: ir.Value
    ) -> ir.Value:
        op.prefix, read = str(table.name), shape_of(ids)
        assert scale.dtype is not None
        wide = _read_table(op, table, ids, rows, scale.dtype)
        scales = op.Gather(scale, ids, _shape=[*read, *shape_of(scale)[1:]], _name="rows.scale", axis=0)
        last = op.shared(f"{table.name}.last", np.array([-1]))
        column = op.Unsqueeze(scales, last, _shape=[*shape_of(scales), 1], _name="rows.column")
        if len(shape_of(scale)) == 1:
            return op.Mul(wide, column, _like=rows, _name="rows.restored")
        blocks = extent(scale, 1)
        apart = op.reshape(wide, [*read, blocks, extent(table, 1) // blocks])
        return op.reshape(op.Mul(apart, column, _name="rows.restored"), [*read, extent(table, 1)])


def _read_table(op: GraphEditor, table: ir.Value, ids: ir.Value, rows: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Whole numbers of the rows that are asked for, in the scales' type."""
    if table.dtype != ir.DataType.INT4:
        stored = op.Gather(table, ids, _like=rows, _dtype=table.dtype, _name="rows", axis=0)
        return op.Cast(stored, _like=rows, _dtype=dtype, _name="rows.cast", to=int(dtype))
    shape: Sequence[Size] = [*shape_of(ids), extent(table, 1) // 2]
    stored = op.Gather(_pack(op, table), ids, _shape=shape, _dtype=ir.DataType.INT8, _name="rows", axis=0)
    both = op.Cast(stored, _dtype=dtype, _name="rows.cast", to=int(dtype))
    high = op.Floor(op.Div(both, op.filled(LOW, dtype)))
    low = op.Sub(op.Sub(both, op.Mul(high, op.filled(LOW, dtype))), op.filled(LOW / 2, dtype))
    return op.Concat(low, high, _shape=[*shape_of(ids), extent(table, 1)], _name="rows.codes", axis=-1)


def _pack(op: GraphEditor, table: ir.Value) -> ir.Value:
    """A table of 4 bits with the halves of its rows in the halves of bytes."""
    count, half = extent(table, 0), extent(table, 1) // 2
    source = table.const_value
    assert source is not None

    def pack() -> ir.TensorProtocol:
        codes, packed = source.numpy(), np.empty((count, half), np.int8)
        for start in range(0, count, SLICE):  # a whole table would be there five times
            low, high = (part.astype(np.int8) for part in _halve(codes[start : start + SLICE], half))
            packed[start : start + SLICE] = LOW * high + low + LOW // 2
        return ir.Tensor(packed)

    lazy = ir.LazyTensor(pack, dtype=ir.DataType.INT8, shape=ir.Shape([count, half]))
    return op.graph.initializers.get(f"{table.name}.packed") or op.constant(lazy, f"{table.name}.packed")


def _halve(codes: Array, half: int) -> tuple[Array, Array]:
    return codes[:, :half], codes[:, half:]


RULE = GatherRows
