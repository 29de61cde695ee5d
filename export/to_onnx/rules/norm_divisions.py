"""An RMSNorm divides by its root, the form in which ONNX Runtime recognizes it.

    x (1 / sqrt(mean(x^2) + eps)) w   ->   x / sqrt(mean(x^2) + eps) w
torch writes rsqrt, which is exported as Sqrt and Reciprocal; ONNX Runtime finds its SimplifiedLayerNormalization by Sqrt and Div,
and that runs once over the values where the single operations run five times.
Covered: what takes a mean over the last axis. A norm that takes a sum would not be recognized, and dividing all values costs more
than multiplying them; it is left alone.
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import add_node, known_shape, maker, replace


def rewrite(model: ir.Model) -> None:
    """Turn the products with a reciprocal root of a mean into divisions, in place."""
    graph = model.graph
    for node in list(graph):
        root = maker(node.inputs[0], "Sqrt") if node.op_type == "Reciprocal" else None
        shifted = None if root is None else maker(root.inputs[0], "Add")
        if root is None or shifted is None or maker(shifted.inputs[0], "ReduceMean") is None:
            continue
        for product in [use.node for use in node.outputs[0].uses() if use.node.op_type == "Mul"]:
            x = product.inputs[1 if product.inputs[0] is node.outputs[0] else 0]
            if x is not None:
                quotient = product.outputs[0]
                name = f"{quotient.name}.divided"
                replace(graph, product, add_node(graph, product, "Div", [x, root.outputs[0]], name, known_shape(quotient)))
        if not node.outputs[0].uses():
            graph.remove(node, safe=True)
