"""A FP8 activation is widened by a Cast and a Mul, so that ONNX Runtime takes no layer for one of its integer products.

    DequantizeLinear(q, s)  =  s cast(q)         q FP8, s one float: the same products, bit for bit
ONNX Runtime 1.21 to 1.31 fuses DequantizeLinear, DequantizeLinear and MatMul into MatMulIntegerToFloat without looking at their
types, then refuses that operator FP8 and with it the graph ("Type 'tensor(float8e4m3fn)' ... is invalid"). 1.32 looks. A product
with one DequantizeLinear, its weight's, is no pattern of any version; weights keep theirs and so stay a byte a value in memory.
Some fusions move s behind the product (FusedMatMul's alpha), which is why it is no slower.
Covered: every Q/DQ pair in FP8 on an activation, per tensor. A weight's DequantizeLinear is left alone.
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import add_node, is_constant, known_shape, replace

FLOAT8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)


def rewrite(model: ir.Model) -> None:
    """Replace the DequantizeLinear of every FP8 activation, in place."""
    graph = model.graph
    for node in list(graph):
        q = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        if q is not None and q.dtype in FLOAT8 and not is_constant(q):
            _widen(graph, node, q)


def _widen(graph: ir.Graph, node: ir.Node, q: ir.Value) -> None:
    scale, restored = node.inputs[1], node.outputs[0]
    assert scale is not None and restored.dtype is not None
    shape, name, zero = known_shape(restored), str(restored.name), node.inputs[2]
    wide = add_node(graph, node, "Cast", [q], f"{name}.cast", shape, restored.dtype, to=int(restored.dtype))
    replace(graph, node, add_node(graph, node, "Mul", [wide, scale], f"{name}.scaled", shape, restored.dtype))
    if zero is not None and not zero.uses():
        del graph.initializers[str(zero.name)]
