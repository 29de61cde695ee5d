"""A MatMul of two quantized tensors is written as the integer product it is, so that ONNX Runtime runs it as one.

    s_x (X - z) . s_w W + b   =   (s_x s_w) cast((X - z) . W) + b      MatMulInteger, Cast, Mul, Add; X [.., K], W [K, N], b [N]
ONNX Runtime fuses those into MatMulIntegerToFloat, bias and all. Left as Q/DQ, MatMul + Add would become a Gemm before Q/DQ is
looked at, and a Gemm with a float bias has no integer kernel: its weight would be dequantized at every run.
s_x s_w must be a product that nobody folds beforehand, or the fusion does not know its factors; DequantizeLinear(1, s_x) is s_x,
and ONNX Runtime leaves a DequantizeLinear of integers unfolded until its fusions are done.
Covered: any rank, with or without bias, one weight scale or one a column. The values are those of the Q/DQ form, summed exactly.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as common_passes

from sprint_export.export.to_onnx.graph_editor import (
    add_constant,
    add_node,
    fixed_shape,
    is_constant,
    known_shape,
    maker,
    only_user,
    replace,
)

ONE = "integer.one"


def rewrite(model: ir.Model) -> None:
    """Replace every MatMul of an INT8 or UINT8 activation with a stored INT8 weight, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "MatMul" and all(_is_integer(value) for value in node.inputs) and is_constant(_quantized(node, 1)):
            _to_integers(graph, node)
    common_passes.RemoveUnusedNodesPass()(model)


def _is_integer(value: ir.Value | None) -> bool:
    restored = maker(value, "DequantizeLinear")
    source = None if restored is None else restored.inputs[0]
    return source is not None and source.dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def _quantized(node: ir.Node, side: int) -> ir.Value | None:
    restored = maker(node.inputs[side], "DequantizeLinear")
    return None if restored is None else restored.inputs[0]


def _to_integers(graph: ir.Graph, node: ir.Node) -> None:
    left, right = maker(node.inputs[0], "DequantizeLinear"), maker(node.inputs[1], "DequantizeLinear")
    assert left is not None and right is not None
    x, x_scale, x_zero = left.inputs
    weight, weight_scale, weight_zero = right.inputs
    assert x is not None and x_scale is not None and x_zero is not None
    assert weight is not None and weight_scale is not None and weight_zero is not None
    name, shape, dtype = str(node.outputs[0].name), known_shape(node.outputs[0]), x_scale.dtype
    operands = [x, weight, x_zero, weight_zero]
    total = add_node(graph, node, "MatMulInteger", operands, f"{name}.int32", shape, ir.DataType.INT32)
    assert dtype is not None
    total = add_node(graph, node, "Cast", [total], f"{name}.cast", shape, dtype, to=int(dtype))
    one = add_constant(graph, ONE, np.array(1, np.int8))
    factor = add_node(graph, node, "DequantizeLinear", [one, x_scale], f"{name}.factor", [], dtype)
    scale = add_node(graph, node, "Mul", [factor, weight_scale], f"{name}.scale", fixed_shape(weight_scale), dtype)
    _put_bias_second(node)
    replace(graph, node, add_node(graph, node, "Mul", [total, scale], f"{name}.float", shape, dtype))


def _put_bias_second(node: ir.Node) -> None:
    """b + x W -> x W + b: the fusion looks for a bias on the right."""
    add = only_user(node.outputs[0])
    if add is not None and add.op_type == "Add" and is_constant(add.inputs[0]):
        bias, product = add.inputs
        add.replace_input_with(0, product)
        add.replace_input_with(1, bias)
