"""A convolution's weight scales, one an output channel, move from the weight to behind the convolution.

    conv(x, s_c W) + b_c   =   (128 s_c) conv(x, W / 128) + b_c              W int8 or FP8, s_c its scale per output channel

TensorRT for RTX 1.7 (measured, SM89) fuses a convolution whose weight has a single scale, and writes 16 bits. With a scale per
channel it writes float32 and a second kernel rescales: at 1024 x 1024 x 128 that is 805 MB instead of 403. In this form the
convolution has a single scale, a constant, and the two factors and the bias are done by the elementwise kernel that reads
its result anyway (SiLU and Q; norm, residual and Q): a scale per channel at the price of one per tensor.

128 is a power of two, so no digit changes; W / 128 keeps results within the input's magnitude times the number of taps.
Covered: Conv with a DequantizeLinear weight of one scale per output channel. Left alone: a weight of one scale, and a
convolution whose result leaves the graph.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from sprint_export.export.to_onnx.tensors import sizes, to_ir, to_torch

STEPS = 128.0


def rewrite(model: ir.Model) -> None:
    """Move the scales of every covered convolution, in place."""
    for node in list(model.graph):
        if node.op_type == "Conv" and not node.outputs[0].is_graph_output():
            restored = _scaled_per_channel(node)
            if restored is not None:
                _move_scale(model.graph, node, restored)


def _scaled_per_channel(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of a convolution's weight, if it has a scale per channel and no other reader."""
    weight = node.inputs[1]
    restored = None if weight is None else weight.producer()
    if restored is None or restored.op_type != "DequantizeLinear" or weight is None or len(list(weight.uses())) != 1:
        return None
    scale = restored.inputs[1]
    return restored if scale is not None and scale.const_value is not None and len(sizes(scale.const_value)) == 1 else None


def _move_scale(graph: ir.Graph, node: ir.Node, restored: ir.Node) -> None:
    result = node.outputs[0]
    scale, zero = restored.inputs[1], restored.inputs[2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert scale is not None and zero is not None and zero.dtype is not None and scale.dtype is not None
    readers = list(result.uses())
    factor = _column(graph, scale, STEPS)
    restored.replace_input_with(1, _constant(graph, f"{scale.name}.single", 1.0 / STEPS, scale.dtype))
    restored.replace_input_with(2, _constant(graph, f"{zero.name}.single", 0.0, zero.dtype))
    del restored.attributes["axis"]
    scaled = [ir.node("Mul", [result, factor])]
    if bias is not None:
        node.resize_inputs(2)
        scaled.append(ir.node("Add", [scaled[0].outputs[0], _column(graph, bias, 1.0)]))
    for made, suffix in zip(scaled, ("scaled", "biased"), strict=False):
        value = made.outputs[0]
        made.name = value.name = f"{result.name}.{suffix}"
        value.type, value.shape = result.type, result.shape
    for use in readers:
        use.node.replace_input_with(use.idx, scaled[-1].outputs[0])
    graph.insert_after(node, scaled)
    for old in (scale, zero, bias):
        if old is not None and old.name is not None and not list(old.uses()):
            del graph.initializers[old.name]


def _column(graph: ir.Graph, value: ir.Value, factor: float) -> ir.Value:
    """An initializer [C] times a factor as [1, C, 1, 1], computed when its bytes are asked for."""
    tensor, dtype, name = value.const_value, value.dtype, f"{value.name}.column"
    assert tensor is not None and dtype is not None
    shape = ir.Shape([1, *sizes(tensor), 1, 1])

    def compute() -> ir.TensorProtocol:
        return to_ir(to_torch(tensor).reshape(1, -1, 1, 1) * factor, dtype, name)

    return _register(graph, name, ir.LazyTensor(compute, dtype=dtype, shape=shape, name=name), dtype, shape)


def _constant(graph: ir.Graph, name: str, number: float, dtype: ir.DataType) -> ir.Value:
    return _register(graph, name, to_ir(torch.tensor(number), dtype, name), dtype, ir.Shape([]))


def _register(graph: ir.Graph, name: str, tensor: ir.TensorProtocol, dtype: ir.DataType, shape: ir.Shape) -> ir.Value:
    if name in graph.initializers:
        return graph.initializers[name]
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
