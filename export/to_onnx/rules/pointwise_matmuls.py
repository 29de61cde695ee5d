"""An INT8 1x1 convolution becomes a MatMul over channels-last pixels.

    y[b, o, h, w] = sum_i W[o, i] x[b, i, h, w] + c[o]     ->     y' = x' W^T + c,  x'[b, h, w, i] = x[b, i, h, w]
On a CPU a MatMul of integers may give floats (MatMulIntegerToFloat), a convolution may not: QLinearConv rounds its output, and
a Conv without a Q behind it dequantizes its weight at every run. Transposes come in pairs here; rules/fewer_transposes.py
takes out those that meet another.
Covered: kernel 1x1, stride 1, no padding, one group, a stored INT8 weight, an output that is not rounded. Strided ones stay, and
float ones: those are fastest as convolutions, in ONNX Runtime's blocked layout.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as common_passes

from sprint_export.export.to_onnx.graph_editor import (
    add_node,
    fixed_shape,
    is_constant,
    known_shape,
    maker,
    replace,
    view_initializer,
)

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def rewrite(model: ir.Model) -> None:
    """Replace every INT8 1x1 convolution, in place."""
    for node in list(model.graph):
        weight = maker(node.inputs[1], "DequantizeLinear") if node.op_type == "Conv" else None
        if weight is not None and is_pointwise(node) and is_integer(weight):
            _to_matmul(model.graph, node, weight)
    common_passes.RemoveUnusedNodesPass()(model)


def is_pointwise(node: ir.Node) -> bool:
    """Dense, 1x1, stride 1, no padding, on a picture whose shape is known; its height and width may be free."""
    weight, shape = fixed_shape(node.inputs[1]), known_shape(node.inputs[0])
    ints = {name: list(node.attributes[name].as_ints()) for name in ("strides", "pads") if name in node.attributes}
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    plain = set(ints.get("strides", [1])) == {1} and set(ints.get("pads", [0])) == {0}
    return shape is not None and weight is not None and weight[2:] == [1, 1] and group == 1 and plain


def is_integer(restored: ir.Node) -> bool:
    """Whether a DequantizeLinear reads a stored INT8 tensor with a zero point: scales in blocks have none."""
    source = restored.inputs[0]
    is_stored = is_constant(source) and source is not None and source.dtype == ir.DataType.INT8
    return is_stored and len(restored.inputs) > 2


def _to_matmul(graph: ir.Graph, node: ir.Node, restored: ir.Node) -> None:
    x, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    assert x is not None
    b, inner, h, w = known_shape(x) or []
    weight = _transposed_weight(graph, node, restored)
    out = (fixed_shape(weight) or [])[1]
    name = str(node.outputs[0].name)
    x = add_node(graph, node, "Transpose", [x], f"{name}.last", [b, h, w, inner], perm=TO_LAST)
    y = add_node(graph, node, "MatMul", [x, weight], f"{name}.matmul", [b, h, w, out])
    if bias is not None:
        y = add_node(graph, node, "Add", [y, bias], f"{name}.biased", [b, h, w, out])
    replace(graph, node, add_node(graph, node, "Transpose", [y], f"{name}.first", [b, out, h, w], perm=TO_FIRST))


def _transposed_weight(graph: ir.Graph, node: ir.Node, restored: ir.Node) -> ir.Value:
    """W^T [in, out] behind a DequantizeLinear of its own."""
    source, scale, zero = restored.inputs
    assert source is not None and scale is not None and zero is not None
    out, inner = (fixed_shape(source) or [])[:2]
    turned = view_initializer(graph, f"{source.name}.matmul", source, [inner, out], lambda array: array.reshape(out, inner).T)
    axis = {"axis": 1} if fixed_shape(scale) else {}
    name = f"{restored.outputs[0].name}.matmul"
    return add_node(graph, node, "DequantizeLinear", [turned, scale, zero], name, [inner, out], scale.dtype, **axis)
