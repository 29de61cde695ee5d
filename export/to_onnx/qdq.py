"""Q/DQ pairs around the layers that are quantized.

    y = DQ(Q(x, s_x), s_x) . DQ(W_q, s_w)        s_x per tensor; s_w per output channel or per tensor
    y' = DQ(Q(y, s_y), s_y)                      where the target's kernel gives 8 bits back
    y = x . DQ(W_q, s_w)                         weights alone; s_w per output channel or for blocks of input values
    y = Gather(DQ(W_q, s_w), ids)                an embedding, whose weight alone can be quantized; s_w per row
Where they sit decides what kernels come out (measured with TensorRT for RTX on SM89; facts in docs/decisions/0002-onnx-form.md):
* layers that read one tensor at one scale share one Q/DQ, so Q, K and V merge into one FP8 kernel;
* scales have the graph's own float type, or a strongly typed parser refuses the next Add;
* weights are stored quantized (DQ only): 1 byte a value in the file and in the engine;
* depthwise convolutions never get here (quantize/patterns.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import torch

from sprint_export.errors import InputError
from sprint_export.export.narrow import check_fits
from sprint_export.export.to_onnx.graph_editor import register
from sprint_export.export.to_onnx.tensors import FLOAT_TYPES, STORAGE_TYPES, TORCH_TYPES, sizes, to_ir, to_torch
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import input_scale, output_scale, quantize_tensor, weight_scale

WHOLE_BYTE = 8
READERS = (("MatMul", 1), ("Conv", 1), ("Gather", 0))  # what may read a weight, at which input


def insert_qdq(model: ir.Model, layers: Mapping[str, QuantizedLayer]) -> None:
    """Insert Q/DQ for every quantized layer, in place.

    Args:
        model: after the passes: a Linear is a MatMul with weight `<layer>.weight.transposed` [in, out], a Conv2d a Conv.
        layers: by module name.

    Raises:
        InputError: a layer's weight is not in the graph, or is not read by exactly one MatMul, Conv or Gather; an embedding has
            less than a byte a value.
    """
    shared: dict[tuple[str, float, str], ir.Value] = {}
    for name, layer in layers.items():
        node, weight, transposed = _find(model.graph, name)
        _check_gather(name, node, layer)
        if layer.input_amax is not None:
            node.replace_input_with(0, _quantize_input(model.graph, node, layer, shared))
        place = next(use.idx for use in weight.uses())
        node.replace_input_with(place, _dequantized_weight(model.graph, node, weight, layer, transposed))
        if layer.output_amax is not None:
            _quantize_output(model.graph, node, layer)


def _find(graph: ir.Graph, name: str) -> tuple[ir.Node, ir.Value, bool]:
    for suffix, transposed in ((".weight.transposed", True), (".weight", False)):
        weight = graph.initializers.get(name + suffix)
        users = [] if weight is None else list(weight.uses())
        if weight is not None and len(users) == 1 and (users[0].node.op_type, users[0].idx) in READERS:
            return users[0].node, weight, transposed
    raise InputError(
        f"layer {name!r}: expected its weight to be read by one MatMul, Conv or Gather of the graph; leave the layer "
        "'float' in the recipe"
    )


def _check_gather(name: str, node: ir.Node, layer: QuantizedLayer) -> None:
    if node.op_type == "Gather" and layer.precision.bits < WHOLE_BYTE:
        raise InputError(
            f"layer {name!r}: an ONNX graph gathers an embedding in whole bytes, found {layer.precision.name}; give it 'w8a16' "
            "or 'float' in the recipe"
        )


def _quantize_input(
    graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, shared: dict[tuple[str, float, str], ir.Value]
) -> ir.Value:
    source = node.inputs[0]
    assert source is not None and source.name is not None
    scale = input_scale(layer)
    key = (source.name, scale.item(), layer.precision.name)
    if key not in shared:
        prefix = f"{source.name}.{layer.precision.name}.{len(shared)}"
        scale_value = _constant(graph, f"{prefix}.scale", scale, _float_type(layer))
        zero = _constant(graph, f"{prefix}.zero", torch.zeros(()), _storage_type(layer))
        quantized = ir.node("QuantizeLinear", [source, scale_value, zero])
        restored = ir.node("DequantizeLinear", [quantized.outputs[0], scale_value, zero])
        _declare(quantized, f"{prefix}.q", _storage_type(layer), source.shape)
        shared[key] = _declare(restored, f"{prefix}.dq", _float_type(layer), source.shape)
        graph.insert_before(node, [quantized, restored])
    return shared[key]


def _quantize_output(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer) -> None:
    result = node.outputs[0]
    users = list(result.uses())
    prefix = f"{result.name}.{layer.precision.name}.out"
    scale = _constant(graph, f"{prefix}.scale", output_scale(layer), _float_type(layer))
    zero = _constant(graph, f"{prefix}.zero", torch.zeros(()), _storage_type(layer))
    quantized = ir.node("QuantizeLinear", [result, scale, zero])
    restored = ir.node("DequantizeLinear", [quantized.outputs[0], scale, zero])
    _declare(quantized, f"{prefix}.q", _storage_type(layer), result.shape)
    _declare(restored, f"{prefix}.dq", _float_type(layer), result.shape)
    graph.insert_after(node, [quantized, restored])
    for use in users:
        use.node.replace_input_with(use.idx, restored.outputs[0])


def _dequantized_weight(graph: ir.Graph, node: ir.Node, weight: ir.Value, layer: QuantizedLayer, transposed: bool) -> ir.Value:
    stored, scale = _store_weight(graph, weight, layer, transposed)
    attributes = {}
    if layer.group:
        attributes = {"axis": 0 if transposed else 1, "block_size": layer.group}
    elif layer.weight_axis is not None:
        attributes = {"axis": 1 if transposed else 0}
    zero = []
    assert stored.const_value is not None
    if not layer.group:  # a zero point a block would only cost: without one it is 0
        shape = _scale_shape(sizes(stored.const_value), layer, transposed)
        zero = [_constant(graph, f"{weight.name}.zero", torch.zeros(shape), _storage_type(layer))]
    restored = ir.node("DequantizeLinear", [stored, scale, *zero], attributes=attributes)
    graph.insert_before(node, restored)
    return _declare(restored, f"{weight.name}.dq", _float_type(layer), stored.shape)


def _store_weight(graph: ir.Graph, weight: ir.Value, layer: QuantizedLayer, transposed: bool) -> tuple[ir.Value, ir.Value]:
    """A weight's place taken by its quantized values and their scales, both lazy."""
    tensor = weight.const_value
    assert tensor is not None and weight.name is not None
    storage, name = _storage_type(layer), weight.name

    def source() -> torch.Tensor:  # [out, in, ...], as torch stores it
        value = to_torch(tensor)
        return value.transpose(0, 1) if transposed else value

    def quantized() -> ir.TensorProtocol:
        value = source()
        check_fits(value, TORCH_TYPES[_float_type(layer)], name.removesuffix(".transposed"))
        result = quantize_tensor(value, weight_scale(value, layer), layer.precision)
        return to_ir(result.transpose(0, 1) if transposed else result, storage, name)

    def scales() -> ir.TensorProtocol:
        value = weight_scale(source(), layer)  # [out], [out, in / group] or a scalar
        if layer.group:
            value = value.t() if transposed else value.reshape(*value.shape, *(1,) * (len(shape) - 2)).expand(shape)
        return to_ir(value.reshape(shape), _float_type(layer), f"{name}.scale")

    shape = _scale_shape(sizes(tensor), layer, transposed)
    whole = ir.LazyTensor(quantized, dtype=storage, shape=ir.Shape(sizes(tensor)))
    stored = register(graph, f"{name}.{layer.precision.name}", whole)
    scale = register(graph, f"{name}.scale", ir.LazyTensor(scales, dtype=_float_type(layer), shape=ir.Shape(shape)))
    del graph.initializers[name]
    return stored, scale


def _scale_shape(shape: list[int], layer: QuantizedLayer, transposed: bool) -> list[int]:
    """Of a weight as the graph has it: none, its output channels, or its own with the input values in blocks."""
    if layer.weight_axis is None:
        return []
    if not layer.group:
        return [shape[1 if transposed else 0]]
    inner = 0 if transposed else 1
    return [size // layer.group if axis == inner else size for axis, size in enumerate(shape)]


def _declare(node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    value = node.outputs[0]
    node.name = value.name = name
    value.type, value.shape = ir.TensorType(dtype), shape
    return value


def _constant(graph: ir.Graph, name: str, value: torch.Tensor, dtype: ir.DataType) -> ir.Value:
    return register(graph, name, to_ir(value, dtype, name))


def _storage_type(layer: QuantizedLayer) -> ir.DataType:
    return ir.DataType.INT4 if layer.precision.bits == 4 else STORAGE_TYPES[layer.precision.storage]


def _float_type(layer: QuantizedLayer) -> ir.DataType:
    return FLOAT_TYPES[layer.scale_dtype]
