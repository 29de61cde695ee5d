"""A picture becomes tokens by moving its channels first and joining its rows after, not the other way round.

    transpose(reshape(x, [B, C, h w]), (0, 2, 1))  =  reshape(transpose(x, (0, 2, 3, 1)), [B, h w, C])
The same values in the same order. A runtime whose convolutions write channels last has the right side in memory already; the left
side makes it reorder the picture, then transpose it (OpenVINO, 1152 channels of 32 x 32: two passes gone from every block).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import (
    add_constant,
    add_node,
    known_shape,
    literal_shape,
    maker,
    permutation_of,
    replace,
    shape_of,
)


def rewrite(model: ir.Model) -> None:
    """Turn every flatten and transpose of a picture [B, C, h, w] into a transpose and a flatten, in place."""
    graph = model.graph
    for node in list(graph):
        flatten = maker(node.inputs[0], "Reshape") if node.op_type == "Transpose" and permutation_of(node) == (0, 2, 1) else None
        if flatten is None or not _joins_rows(flatten.inputs[0], flatten.outputs[0]):
            continue
        picture = flatten.inputs[0]
        assert picture is not None
        batch, channels, height, width = shape_of(picture)
        tokens, name = (batch, height * width, channels), node.outputs[0].name
        moved = add_node(graph, node, "Transpose", [picture], f"{name}.last", (batch, height, width, channels), perm=(0, 2, 3, 1))
        shape = add_constant(graph, f"{name}.shape", np.array(literal_shape(tokens), np.int64))
        replace(graph, node, add_node(graph, node, "Reshape", [moved, shape], f"{name}.tokens", tokens))
        if not list(flatten.outputs[0].uses()):
            graph.remove(flatten, safe=True)


def _joins_rows(picture: ir.Value | None, tokens: ir.Value) -> bool:
    """Whether [B, C, h, w] became [B, C, h w]."""
    before, after = known_shape(picture), known_shape(tokens)
    return before is not None and after is not None and (len(before), len(after)) == (4, 3) and before[:2] == after[:2]
