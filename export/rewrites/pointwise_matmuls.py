"""A dense 1x1 convolution becomes a MatMul over channels-last pixels.

    y[b, o, h, w] = sum_i W[o, i] x[b, i, h, w] + c[o]     ->     y' = x' W^T + c,  x'[b, h, w, i] = x[b, i, h, w]
On a CPU a MatMul of quantized values may give floats (MatMulIntegerToFloat), a convolution may not: QLinearConv rounds its
output, and a Conv without a Q behind it dequantizes its weight at every run. Transposes come in pairs here;
rewrites/fewer_transposes.py takes out those that meet another.
Covered: kernel 1x1, stride 1, no padding, one group, weight and bias initializers, quantized or float. Strided ones stay.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as common_passes

from sprint_export.export.rewrites.edits import add_node, is_constant, maker, replace, shape_of, view_initializer

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def rewrite(model: ir.Model) -> None:
    """Replace every 1x1 convolution, in place."""
    for node in list(model.graph):
        if node.op_type == "Conv" and is_pointwise(node):
            _to_matmul(model.graph, node)
    common_passes.RemoveUnusedNodesPass()(model)


def is_pointwise(node: ir.Node) -> bool:
    """Dense, 1x1, stride 1, no padding, on a picture of known size."""
    weight, shape = shape_of(node.inputs[1]), shape_of(node.inputs[0])
    ints = {name: list(node.attributes[name].as_ints()) for name in ("strides", "pads") if name in node.attributes}
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    plain = set(ints.get("strides", [1])) == {1} and set(ints.get("pads", [0])) == {0}
    return shape is not None and weight is not None and weight[2:] == [1, 1] and group == 1 and plain


def _to_matmul(graph: ir.Graph, node: ir.Node) -> None:
    x, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    shape, out = shape_of(x), node.outputs[0]
    weight = _transposed_weight(graph, node)
    if x is None or shape is None or weight is None:
        return
    b, _, h, w = shape
    channels = (shape_of(weight) or [0, 0])[1]
    name = str(out.name)
    x = add_node(graph, node, "Transpose", [x], f"{name}.last", [b, h, w, shape[1]], perm=TO_LAST)
    y = add_node(graph, node, "MatMul", [x, weight], f"{name}.matmul", [b, h, w, channels])
    if bias is not None:
        y = add_node(graph, node, "Add", [y, bias], f"{name}.biased", [b, h, w, channels])
    y = add_node(graph, node, "Transpose", [y], f"{name}.first", [b, channels, h, w], perm=TO_FIRST)
    replace(graph, node, y)


def _transposed_weight(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """W^T [in, out], still behind its DequantizeLinear where it has one; None where it is computed."""
    weight = node.inputs[1]
    restored = maker(weight, "DequantizeLinear")
    source = weight if restored is None else restored.inputs[0]
    if source is None or not is_constant(source):
        return None
    out, inner = (shape_of(source) or [0, 0])[:2]
    name = f"{source.name}.matmul"
    if name not in graph.initializers:
        view_initializer(graph, name, source, [inner, out], lambda array: array.reshape(out, inner).T)
    turned = graph.initializers[name]
    if restored is None:
        return turned
    scale, zero = restored.inputs[1:3]
    assert scale is not None and zero is not None
    axis = {"axis": 1} if shape_of(scale) else {}
    restored_name = f"{restored.outputs[0].name}.matmul"
    return add_node(graph, node, "DequantizeLinear", [turned, scale, zero], restored_name, [inner, out], scale.dtype, **axis)
