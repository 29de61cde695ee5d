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


def rewrite(model: ir.Model) -> None:
    """Rewrite every Gather of a table with one scale a row, in place."""
    for node in list(model.graph):
        table = node.inputs[0] if node.op_type == "Gather" else None
        restore = None if table is None else table.producer()
        if restore is not None and _has_row_scales(restore):
            _read_first(model.graph, node, restore)
    RemoveUnusedNodesPass()(model)


def _has_row_scales(node: ir.Node) -> bool:
    axis = node.attributes.get("axis") if node.op_type == "DequantizeLinear" else None
    return axis is not None and axis.as_int() == 0 and "block_size" not in node.attributes


def _read_first(graph: ir.Graph, node: ir.Node, restore: ir.Node) -> None:
    (table, scale, *_), ids, result = restore.inputs, node.inputs[1], node.outputs[0]
    assert table is not None and table.dtype is not None and scale is not None and scale.dtype is not None
    assert ids is not None and ids.shape is not None
    last = ir.tensor(np.array([-1]), name=f"{table.name}.last")
    graph.register_initializer(ir.Value(name=last.name, shape=ir.Shape([1]), type=ir.TensorType(last.dtype), const_value=last))
    rows, scales = (ir.node("Gather", [value, ids], attributes={"axis": 0}) for value in (table, scale))
    cast = ir.node("Cast", [rows.outputs[0]], attributes={"to": int(scale.dtype)})
    column = ir.node("Unsqueeze", [scales.outputs[0], graph.initializers[f"{table.name}.last"]])
    product = ir.node("Mul", [cast.outputs[0], column.outputs[0]])
    for new, name, dtype, shape in (
        (rows, "rows", table.dtype, result.shape),
        (cast, "rows.cast", scale.dtype, result.shape),
        (scales, "rows.scale", scale.dtype, ids.shape),
        (column, "rows.column", scale.dtype, ir.Shape([*ids.shape, 1])),
        (product, "rows.restored", scale.dtype, result.shape),
    ):
        new.name = new.outputs[0].name = f"{table.name}.{name}"
        new.outputs[0].type, new.outputs[0].shape = ir.TensorType(dtype), shape
    graph.insert_before(node, [rows, cast, scales, column, product])
    ir.convenience.replace_all_uses_with(result, product.outputs[0])
    graph.remove(node, safe=True)
