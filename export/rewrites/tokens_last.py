"""A picture becomes tokens by moving its channels first and joining its rows after, not the other way round.

    transpose(reshape(x, [B, C, h w]), (0, 2, 1))  =  reshape(transpose(x, (0, 2, 3, 1)), [B, h w, C])
The same values in the same order. A runtime whose convolutions write channels last has the right side in memory already; the left
side makes it reorder the picture, then transpose it (OpenVINO, 1152 channels of 32 x 32: two passes gone from every block).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def rewrite(model: ir.Model) -> None:
    """Turn every flatten and transpose of a picture [B, C, h, w] into a transpose and a flatten, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Transpose" or list(node.attributes["perm"].as_ints()) != [0, 2, 1]:
            continue
        flatten = node.inputs[0].producer() if node.inputs[0] is not None else None
        if flatten is None or flatten.op_type != "Reshape" or not _joins_rows(flatten.inputs[0], flatten.outputs[0]):
            continue
        picture = flatten.inputs[0]
        assert picture is not None and picture.shape is not None
        batch, channels, height, width = (int(size) for size in picture.shape.numpy())
        name = node.outputs[0].name
        moved = ir.node("Transpose", [picture], attributes={"perm": [0, 2, 3, 1]})
        _declare(moved, f"{name}.last", picture, [batch, height, width, channels])
        shape = _constant(graph, f"{name}.shape", [batch, height * width, channels])
        joined = ir.node("Reshape", [moved.outputs[0], shape])
        _declare(joined, f"{name}.tokens", picture, [batch, height * width, channels])
        graph.insert_before(node, [moved, joined])
        ir.convenience.replace_all_uses_with(node.outputs[0], joined.outputs[0])
        graph.remove(node, safe=True)
        if not list(flatten.outputs[0].uses()):
            graph.remove(flatten, safe=True)


def _joins_rows(picture: ir.Value | None, tokens: ir.Value) -> bool:
    """Whether [B, C, h, w] became [B, C, h w]."""
    if picture is None or picture.shape is None or tokens.shape is None or (len(picture.shape), len(tokens.shape)) != (4, 3):
        return False
    before, after = list(picture.shape), list(tokens.shape)
    fixed = all(isinstance(size, int) for size in (*before, *after))
    return fixed and before[:2] == after[:2]


def _declare(node: ir.Node, name: str, like: ir.Value, shape: list[int]) -> None:
    value = node.outputs[0]
    node.name = value.name = name
    value.type, value.shape = like.type, ir.Shape(shape)


def _constant(graph: ir.Graph, name: str, shape: list[int]) -> ir.Value:
    tensor = ir.tensor(np.array(shape, np.int64), name=name)
    value = ir.Value(name=name, shape=ir.Shape([len(shape)]), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
