"""Read a quantized embedding before restoring it, for runtimes that would restore the whole table at every run.

    Gather(DQ(W_q, s), ids)  =  Cast(Gather(W_q, ids)) Gather(s, ids)        one scale s a row
The same arithmetic on the same values, for as many rows as there are ids. ONNX Runtime's CPU restores the 2.4 GB of a large
table otherwise; TensorRT fuses the form on the left and refuses the one on the right.

Left alone: scales in blocks, and with them 4-bit tables, which an ONNX Gather cannot read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, shape_of
from sprint_export.export.to_onnx.rule import PatternRule


class GatherRows(PatternRule):
    """Every Gather of a table with one scale a row."""

    removes = False

    def pattern(self, op: Any, table: Any, scale: Any, ids: Any) -> Any:
        return op.Gather(op.DequantizeLinear(table, scale, axis=0, _allow_other_inputs=True), ids, _outputs=["rows"])

    def check(self, scale: ir.Value, **_: ir.Value) -> bool:
        return len(shape_of(scale)) == 1

    def rewrite(self, op: GraphEditor, table: ir.Value, scale: ir.Value, ids: ir.Value, rows: ir.Value) -> ir.Value:
        op.prefix, read = str(table.name), shape_of(ids)
        assert scale.dtype is not None
        stored = op.Gather(table, ids, _like=rows, _name="rows", axis=0)
        wide = op.Cast(stored, _like=rows, _dtype=scale.dtype, _name="rows.cast", to=int(scale.dtype))
        scales = op.Gather(scale, ids, _shape=read, _name="rows.scale", axis=0)
        last = op.shared(f"{table.name}.last", np.array([-1]))
        column = op.Unsqueeze(scales, last, _shape=[*read, 1], _name="rows.column")
        return op.Mul(wide, column, _like=rows, _name="rows.restored")


RULE = GatherRows
