"""An input that is rounded by scales of its own values, in operators that every runtime has.

    s = max(max |x| / qmax, floor)      x' = s round(x / s)        over every token's channels, or every block of them
The same steps, in the same order, as `round_dynamically` of quantize/scales.py. Integers are rounded by Round, small floats by a
Cast there and back; |x / s| never exceeds qmax, so nothing is clipped. Blocks are an axis of their own in between:
    MatMul   [..., C] -> [tokens, blocks, block]        Conv   [B, C, h, w] -> [B, blocks, block, pixels]
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor
from sprint_export.export.to_onnx.tensors import FLOAT_TYPES, STORED_TYPES
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import smallest_normal
from sprint_export.quantize.schemes.scheme import Inputs


def round_dynamically(
    graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, inputs: Inputs, channels: int, prefix: str
) -> ir.Value:
    """x' of a MatMul's or Conv's first input with so many channels, made in front of it under names that begin with `prefix`."""
    op, source, dtype = GraphEditor(graph, node, prefix), node.inputs[0], FLOAT_TYPES[layer.scale_dtype]
    assert source is not None
    unknown = ir.Value()  # of a shape that nobody asks for
    x, axis = source, 1 if node.op_type == "Conv" else -1
    if inputs.block:
        blocks = [channels // inputs.block, inputs.block]
        shape = [0, *blocks, -1] if node.op_type == "Conv" else [-1, *blocks]
        x, axis = op.Reshape(source, op.ints(shape), _like=unknown), 2
    amax = op.ReduceMax(op.Abs(x), op.ints([axis]), _like=unknown, keepdims=1)
    scale = op.Max(op.Div(amax, op.filled(inputs.format.qmax, dtype)), op.filled(smallest_normal(layer.scale_dtype), dtype))
    steps = op.Div(x, scale)
    if inputs.format.is_float:
        stored = STORED_TYPES[inputs.format.name]
        rounded = op.Cast(op.Cast(steps, _dtype=stored, to=int(stored)), _dtype=dtype, to=int(dtype))
    else:
        rounded = op.Round(steps)
    result = op.Mul(rounded, scale)
    if inputs.block:
        rank = None if source.shape is None else (len(source.shape),)
        result = op.Reshape(result, op.Shape(source, _shape=rank, _dtype=ir.DataType.INT64))
    result.shape = source.shape
    return result
