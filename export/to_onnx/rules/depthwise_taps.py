"""A depthwise 3x3 convolution as nine scaled shifts, which the builder fuses with what stands around it.

    y[c, i, j] = b[c] + sum over (u, v) of w[c, u, v] x[c, i + u - 1, j + v - 1],     x = 0 outside
As a convolution it is a kernel of its own between two elementwise ones, each of which moves the 5760-wide tensor of SANA's
feed-forward once more: SiLU 25.4, convolution 25.5, gate and Q 16.6 us on the price list for an RTX 4090. As shifts all three
are one generated kernel of 17.5 us that writes one byte a value.

What the price leaves out: SiLU may be computed up to nine times a value (53 M evaluations a block at 1024 px; 10 to 20 us of an
RTX 4090's special function units, beside the memory traffic), and neighbours are read nine times, from cache. Not timed on a GPU.
Covered: stride 1, padding 1, no dilation, one filter a channel, a picture of known size. Weights are cut lazily.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, fixed_shape, is_constant, shape_of
from sprint_export.export.to_onnx.passes import remove_unused

KERNEL = 3
PLAIN = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}


def rewrite(model: ir.Model) -> None:
    """Replace every depthwise 3x3 convolution, in place."""
    for node in list(model.graph):
        if node.op_type == "Conv" and _fits(model.graph, node):
            _replace(model.graph, node)
    remove_unused(model)


def _fits(graph: ir.Graph, node: ir.Node) -> bool:
    shape, groups = shape_of(node.inputs[1]), node.attributes["group"].as_int()
    if shape[1:] != (1, KERNEL, KERNEL) or groups != shape[0] or not is_constant(node.inputs[1]):
        return False
    if fixed_shape(node.outputs[0]) is None:
        return False
    return all(tuple(node.attributes[name].as_ints()) == value for name, value in PLAIN.items())


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    source, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert source is not None and weight is not None and output.name is not None
    editor, shape = GraphEditor(graph, node, output.name), fixed_shape(output)
    assert shape is not None
    batch, channels, height, width = shape
    padded = (batch, channels, height + KERNEL - 1, width + KERNEL - 1)
    bordered = editor.add(
        "Pad", [source, editor.ints((1, 1, 1, 1)), editor.filled(0.0, output.dtype), editor.ints((2, 3))], padded, output.dtype
    )
    total: ir.Value | None = None
    for u in range(KERNEL):
        for v in range(KERNEL):
            window = [editor.ints((u, v)), editor.ints((u + height, v + width)), editor.ints((2, 3))]
            shifted = editor.add("Slice", [bordered, *window], shape)
            term = editor.add("Mul", [shifted, editor.constant(_tap(weight, u, v))], shape)
            total = term if total is None else editor.add("Add", [total, term], shape)
    assert total is not None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = editor.reshape(node.inputs[2], (1, channels, 1, 1))
        total = editor.add("Add", [total, bias], shape)
    ir.convenience.replace_all_uses_with(output, total)


def _tap(weight: ir.Value, u: int, v: int) -> ir.LazyTensor:
    """w[:, 0, u, v] as [1, C, 1, 1]."""
    tensor, channels = weight.const_value, extent(weight, 0)
    assert tensor is not None

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(tensor.numpy()[:, 0, u, v]).reshape(1, channels, 1, 1), dtype=tensor.dtype)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape([1, channels, 1, 1]))
