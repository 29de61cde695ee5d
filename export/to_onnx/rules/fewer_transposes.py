"""Transposes move past what acts on single values, and go where they meet their inverse.

    1. T(x / s rounded)        = (T x) / s rounded                      a Transpose behind Q/DQ goes before it
    2. T(x) sigmoid(T(x))      = T(x sigmoid(x))                        a Transpose before a SiLU goes behind it
    3. T2(T1(x))               = x where T2 is T1's inverse
    4. [B, h, w, C] -> [B, C, h, w] -> [B, C, h w] -> [B, h w, C]       is a Reshape
What is left stands right before or behind a convolution, where ONNX Runtime takes it into the reordering to its blocked layout,
and every quantized MatMul reads its DequantizeLinear.
Covered: Q/DQ per tensor, all of whose readers transpose alike. What has other readers stays where it is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import (
    add_constant,
    add_node,
    fixed_shape,
    known_shape,
    literal_shape,
    maker,
    only_user,
    permutation_of,
    replace,
)

ROUNDS = 8  # each moves a Transpose past one neighbour; a block needs four


def rewrite(model: ir.Model) -> None:
    """Apply the four rules until none fires, in place."""
    graph = model.graph
    for _ in range(ROUNDS):
        fired = [rule(graph, node) for node in list(graph) if node.op_type == "Transpose" for rule in RULES if node.graph]
        if not any(fired):
            return


def hoist_above_rounding(graph: ir.Graph, node: ir.Node) -> bool:
    """Rule 1, one step: above a Q or a DQ."""
    source = maker(node.inputs[0], "QuantizeLinear", "DequantizeLinear")
    if source is None or source.outputs[0].is_graph_output() or fixed_shape(source.inputs[1]) != []:
        return False
    readers = [use.node for use in source.outputs[0].uses()]
    if any(reader.op_type != "Transpose" or permutation_of(reader) != permutation_of(node) for reader in readers):
        return False
    x, out = source.inputs[0], node.outputs[0]
    shape = known_shape(out)
    if x is None or shape is None or known_shape(x) is None:
        return False
    turned = add_node(graph, source, "Transpose", [x], f"{source.name}.turned", shape, perm=permutation_of(node))
    source.replace_input_with(0, turned)
    rounded = source.outputs[0]
    rounded.shape = ir.Shape(shape)
    for reader in readers:
        replace(graph, reader, rounded)
    return True


def sink_below_silu(graph: ir.Graph, node: ir.Node) -> bool:
    """Rule 2."""
    x, turned = node.inputs[0], node.outputs[0]
    readers = [use.node for use in turned.uses()]
    sigmoid = next((reader for reader in readers if reader.op_type == "Sigmoid"), None)
    product = None if sigmoid is None else only_user(sigmoid.outputs[0])
    is_silu = product is not None and product.op_type == "Mul" and set(readers) == {sigmoid, product}
    if sigmoid is None or product is None or not is_silu or x is None or turned.is_graph_output():
        return False
    shape, name = known_shape(x), str(product.outputs[0].name)
    factor = add_node(graph, product, "Sigmoid", [x], f"{name}.sigmoid", shape)
    silu = add_node(graph, product, "Mul", [x, factor], f"{name}.silu", shape)
    back = add_node(graph, product, "Transpose", [silu], f"{name}.turned", known_shape(turned), perm=permutation_of(node))
    replace(graph, product, back)
    for old in (sigmoid, node):
        graph.remove(old, safe=True)
    return True


def cancel_inverse(graph: ir.Graph, node: ir.Node) -> bool:
    """Rule 3."""
    first = maker(node.inputs[0], "Transpose")
    if first is None or first.inputs[0] is None:
        return False
    outer, inner = permutation_of(node), permutation_of(first)
    if [inner[axis] for axis in outer] != list(range(len(outer))):
        return False
    replace(graph, node, first.inputs[0])
    _remove_unread(graph, first)
    return True


def flatten_pixels(graph: ir.Graph, node: ir.Node) -> bool:
    """Rule 4."""
    flat = maker(node.inputs[0], "Reshape")
    first = None if flat is None else maker(flat.inputs[0], "Transpose")
    if flat is None or first is None or permutation_of(node) != (0, 2, 1) or permutation_of(first) != (0, 3, 1, 2):
        return False
    x, pixels, tokens = first.inputs[0], known_shape(flat.outputs[0]), known_shape(node.outputs[0])
    last = known_shape(x)
    if x is None or last is None or tokens is None or pixels != [last[0], last[3], last[1] * last[2]]:
        return False
    numbers = literal_shape(tokens)
    shape = add_constant(graph, "shape." + "x".join(map(str, numbers)), np.array(numbers, np.int64))
    replace(graph, node, add_node(graph, node, "Reshape", [x, shape], f"{node.outputs[0].name}.flat", tokens))
    for old in (flat, first):
        _remove_unread(graph, old)
    return True


RULES = (hoist_above_rounding, sink_below_silu, cancel_inverse, flatten_pixels)


def _remove_unread(graph: ir.Graph, node: ir.Node) -> None:
    if not any(value.uses() or value.is_graph_output() for value in node.outputs):
        graph.remove(node, safe=True)
