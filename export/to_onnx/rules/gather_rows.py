"""Read a quantized embedding before restoring it, for runtimes that would restore the whole table at every run.

    Gather(DQ(W_q, s), ids)  =  Cast(Gather(W_q, ids)) Gather(s, ids)        one scale s a row
The same arithmetic on the same values, for as many rows as there are ids. ONNX Runtime's CPU restores 2.4 GB of Gemma-2-2b's
table otherwise; TensorRT fuses the form on the left and refuses the one on the right.

Left alone: scales in blocks, and with them 4-bit tables, which an ONNX Gather cannot read.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sprint_export.export.to_onnx.graph_editor import add_constant, add_node, fixed_shape, maker, replace


def rewrite(model: ir.Model) -> None:
    """Rewrite every Gather of a table with one scale a row, in place."""
    for node in list(model.graph):
        restore = maker(node.inputs[0], "DequantizeLinear") if node.op_type == "Gather" else None
        if restore is not None and _has_row_scales(restore):
            _read_first(model.graph, node, restore)
    RemoveUnusedNodesPass()(model)


def _has_row_scales(node: ir.Node) -> bool:
    axis = node.attributes.get("axis")
    return axis is not None and axis.as_int() == 0 and "block_size" not in node.attributes


def _read_first(graph: ir.Graph, node: ir.Node, restore: ir.Node) -> None:
    (table, scale, *_), ids, result = restore.inputs, node.inputs[1], node.outputs[0]
    assert table is not None and scale is not None and scale.dtype is not None and ids is not None
    name, read, shape = str(table.name), fixed_shape(ids) or [], fixed_shape(result)
    rows = add_node(graph, node, "Gather", [table, ids], f"{name}.rows", shape, axis=0)
    rows = add_node(graph, node, "Cast", [rows], f"{name}.rows.cast", shape, scale.dtype, to=int(scale.dtype))
    scales = add_node(graph, node, "Gather", [scale, ids], f"{name}.rows.scale", read, axis=0)
    last = add_constant(graph, f"{name}.last", np.array([-1]))
    column = add_node(graph, node, "Unsqueeze", [scales, last], f"{name}.rows.column", [*read, 1])
    replace(graph, node, add_node(graph, node, "Mul", [rows, column], f"{name}.rows.restored", shape))
