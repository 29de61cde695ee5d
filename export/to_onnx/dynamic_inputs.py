"""An input that is rounded by scales of its own values, in operators that every runtime has.

    s = max(max |x| / qmax, floor)      x' = s round(x / s)        over every token's channels, or every block of them
The same steps, in the same order, as `round_dynamically` of quantize/scales.py. Integers are rounded by Round, small floats by a
Cast there and back; |x / s| never exceeds qmax, so nothing is clipped. Blocks are an axis of their own in between:
    MatMul   [..., C] -> [tokens, blocks, block]        Conv   [B, C, h, w] -> [B, blocks, block, pixels]
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from sprint_export.export.to_onnx.graph_editor import add_constant, add_node, fixed_shape, known_shape, register
from sprint_export.export.to_onnx.tensors import FLOAT_TYPES, STORED_TYPES, to_ir
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import smallest_normal
from sprint_export.quantize.schemes.scheme import Inputs


def round_dynamically(
    graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, inputs: Inputs, channels: int, prefix: str
) -> ir.Value:
    """x' of a MatMul's or Conv's first input with so many channels, made in front of it under names that begin with `prefix`."""
    source, dtype, format = node.inputs[0], FLOAT_TYPES[layer.scale_dtype], inputs.format
    assert source is not None

    def add(operator: str, name: str, *values: ir.Value, **attributes: int) -> ir.Value:
        return add_node(graph, node, operator, values, f"{prefix}.{name}", None, dtype, **attributes)

    def number(value: float, name: str) -> ir.Value:
        return register(graph, f"{prefix}.{name}", to_ir(torch.tensor(value), dtype, f"{prefix}.{name}"))

    x, axis = source, 1 if node.op_type == "Conv" else -1
    if inputs.block:
        blocks = [channels // inputs.block, inputs.block]
        shape = [0, *blocks, -1] if node.op_type == "Conv" else [-1, *blocks]
        x, axis = add("Reshape", "blocks", source, _ints(graph, f"{prefix}.shape", shape)), 2
    amax = add("ReduceMax", "amax", add("Abs", "abs", x), _ints(graph, f"{prefix}.axes", [axis]), keepdims=1)
    scale = add("Div", "plain", amax, number(format.qmax, "qmax"))
    scale = add("Max", "scale", scale, number(smallest_normal(layer.scale_dtype), "floor"))
    steps = add("Div", "steps", x, scale)
    if format.is_float:
        stored = STORED_TYPES[format.name]
        small = add_node(graph, node, "Cast", [steps], f"{prefix}.stored", None, stored, to=int(stored))
        rounded = add("Cast", "rounded", small, to=int(dtype))
    else:
        rounded = add("Round", "rounded", steps)
    result = add("Mul", "restored", rounded, scale)
    if inputs.block:
        result = add("Reshape", "whole", result, _shape_of(graph, node, source, prefix))
    result.shape = source.shape
    return result


def _shape_of(graph: ir.Graph, node: ir.Node, source: ir.Value, prefix: str) -> ir.Value:
    """Its sizes, as a constant where they are known."""
    sizes = fixed_shape(source)
    if sizes is not None:
        return _ints(graph, f"{prefix}.sizes", sizes)
    rank = known_shape(source)
    return add_node(graph, node, "Shape", [source], f"{prefix}.sizes", None if rank is None else [len(rank)], ir.DataType.INT64)


def _ints(graph: ir.Graph, name: str, values: list[int]) -> ir.Value:
    return add_constant(graph, name, np.array(values, np.int64))
