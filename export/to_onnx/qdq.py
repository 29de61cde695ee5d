"""Q/DQ pairs around the layers that are quantized.

    y = DQ(Q(x, s_x), s_x) . DQ(W_q, s_w)        s_x per tensor; s_w per output channel or per tensor
    y' = DQ(Q(y, s_y), s_y)                      where the target's kernel gives 8 bits back
    y = x . DQ(W_q, s_w)                         weights alone; s_w per output channel or for blocks of input values
    y = Gather(DQ(W_q, s_w), ids)                an embedding, whose weight alone can be quantized; s_w per row
    y = s round(x / s) . DQ(W_q, s_w)            a dynamic input, s = max |x| / qmax of each token or block, in plain operators
    y = ... + B (A x)                            a branch beside a MatMul or a 1x1 convolution, in the graph's type
Where they sit decides what kernels come out (measured with TensorRT for RTX on SM89; facts in docs/decisions/0002-onnx-form.md):
* layers that read one tensor at one scale share one Q/DQ, so Q, K and V merge into one FP8 kernel;
* scales have the graph's own float type, or a strongly typed parser refuses the next Add;
* weights are stored quantized (DQ only): 1 byte a value in the file and in the engine;
* depthwise convolutions never get here (quantize/schemes/scheme.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch

from sprint_export.errors import InputError
from sprint_export.export.narrow import check_fits
from sprint_export.export.to_onnx.branches import add_branch
from sprint_export.export.to_onnx.dynamic_inputs import round_dynamically
from sprint_export.export.to_onnx.graph_editor import register
from sprint_export.export.to_onnx.tensors import FLOAT_TYPES, SLICE, STORED_TYPES, TORCH_TYPES, to_ir
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import input_format, input_scale, output_scale, smallest_normal, split_weight
from sprint_export.quantize.schemes.scheme import Inputs, Palette, Scheme, load_scheme
from sprint_export.weights import Handle

SMALLEST_HALF = 2.0**-24  # above zero, of half precision
READERS = (("MatMul", 1), ("Conv", 1), ("Gather", 0))  # what may read a weight, at which input

Key = tuple[object, ...]  # of an input that is rounded: source, scale, format


@dataclass(frozen=True)
class _Weight:
    """An initializer of the graph that one node reads, [out, in, ...] as torch stores it or, a Linear's, transposed."""

    name: str
    node: ir.Node
    place: int
    handle: Handle
    is_transposed: bool

    @property
    def stored_shape(self) -> list[int]:
        """As the graph has it."""
        return list(self.handle.shape[::-1] if self.is_transposed else self.handle.shape)

    def load(self) -> torch.Tensor:
        """Its values float32, as torch stores them."""
        return self.handle.load().float()

    def load_rows(self, layer: QuantizedLayer) -> Iterator[torch.Tensor]:
        """What is stored, float32, in slices of rows where each row has scales of its own; what is cut off is refused.

        A whole embedding would take its bytes in float32 several times over.
        """
        value, dtype = self.handle.load(), TORCH_TYPES[FLOAT_TYPES[layer.scale_dtype]]
        check_fits(value, dtype, self.name.removesuffix(".transposed"))
        is_whole = layer.weight_axis is None or load_scheme(layer.scheme).rank
        for rows in (value,) if is_whole else value.split(max(1, SLICE * len(value) // max(value.numel(), 1))):
            yield split_weight(rows.float(), layer)[0]


def insert_qdq(model: ir.Model, component: Component) -> None:
    """Insert Q/DQ for every quantized layer, in place.

    Layers come in the order of their modules, which names go by; nodes stand in the order that they run in. The two may differ,
    so what several layers read is rounded before the first of them that runs.

    Args:
        model: after the passes: a Linear is a MatMul with weight `<layer>.weight.transposed` [in, out], a Conv2d a Conv.
        component: of which it is the graph.

    Raises:
        InputError: a layer's weight is not in the graph, or is not read by exactly one MatMul, Conv or Gather; or is a palette.
    """
    graph = model.graph
    weights = {name: _find(graph, name, component.weights) for name in component.layers}
    inputs = _Inputs(graph, weights, component.layers)
    for name, layer in component.layers.items():
        scheme, weight = load_scheme(layer.scheme), weights[name]
        _check_weight(name, weight, scheme)
        node, source = weight.node, weight.node.inputs[0]
        assert source is not None
        if scheme.inputs is not None:
            node.replace_input_with(0, inputs.round(name, scheme.inputs))
        node.replace_input_with(weight.place, _dequantized_weight(graph, weight, layer, scheme))
        last = add_branch(graph, node, source, layer, weight.handle.shape, weight.load) if scheme.rank else node
        if layer.output_amax is not None:
            _quantize_output(graph, last, layer)


def _find(graph: ir.Graph, name: str, handles: Mapping[str, Handle]) -> _Weight:
    for suffix, is_transposed in ((".weight.transposed", True), (".weight", False)):
        weight = graph.initializers.get(name + suffix)
        users = [] if weight is None else list(weight.uses())
        if weight is not None and len(users) == 1 and (users[0].node.op_type, users[0].idx) in READERS:
            return _Weight(name + suffix, users[0].node, users[0].idx, handles[f"{name}.weight"], is_transposed)
    raise InputError(
        f"layer {name!r}: expected its weight to be read by one MatMul, Conv or Gather of the graph; leave the layer "
        "'float' in the recipe"
    )


def _check_weight(name: str, weight: _Weight, scheme: Scheme) -> None:
    """Refuse what this form of a graph cannot say."""
    if isinstance(scheme, Palette):
        raise InputError(f"layer {name!r}: {scheme.name} stores a palette, and ONNX has none; use a coreml target")


class _Inputs:
    """What layers read, rounded: those that read one tensor at one scale share it."""

    def __init__(self, graph: ir.Graph, weights: Mapping[str, _Weight], layers: Mapping[str, QuantizedLayer]) -> None:
        self._graph, self._weights, self._layers = graph, weights, layers
        self._rounded: dict[Key, ir.Value] = {}
        self._keys = {name: key for name in layers if (key := self._find_key(name)) is not None}
        place = {node: i for i, node in enumerate(graph)}
        readers: dict[Key, list[ir.Node]] = {}
        for name, key in self._keys.items():
            readers.setdefault(key, []).append(weights[name].node)
        self._first = {key: min(nodes, key=lambda node: place[node]) for key, nodes in readers.items()}

    def _find_key(self, name: str) -> Key | None:
        """What layers must have in common to share an input; None where a layer's stays float."""
        layer, node = self._layers[name], self._weights[name].node
        source, inputs = node.inputs[0], load_scheme(layer.scheme).inputs
        if inputs is None:
            return None
        return (source, inputs, node.op_type) if inputs.is_dynamic else (source, inputs.format, input_scale(layer).item())

    def round(self, name: str, inputs: Inputs) -> ir.Value:
        """What a layer reads, rounded as its scheme says."""
        layer, weight, key = self._layers[name], self._weights[name], self._keys[name]
        source, first = weight.node.inputs[0], self._first[key]
        assert source is not None and source.name is not None
        if key not in self._rounded:
            prefix = f"{source.name}.{inputs.format.name}.{len(self._rounded)}"
            if inputs.is_dynamic:
                channels = weight.handle.shape[1]
                self._rounded[key] = round_dynamically(self._graph, first, layer, inputs, channels, prefix)
            else:
                nodes = _make_pair(self._graph, source, input_scale(layer), layer, prefix)
                self._graph.insert_before(first, nodes)
                self._rounded[key] = nodes[-1].outputs[0]
        return self._rounded[key]


def _quantize_output(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer) -> None:
    result = node.outputs[0]
    users = list(result.uses())
    nodes = _make_pair(graph, result, output_scale(layer), layer, f"{result.name}.{input_format(layer).name}.out")
    graph.insert_after(node, nodes)
    for use in users:
        use.node.replace_input_with(use.idx, nodes[-1].outputs[0])


def _make_pair(graph: ir.Graph, source: ir.Value, scale: torch.Tensor, layer: QuantizedLayer, prefix: str) -> list[ir.Node]:
    """Q and DQ of an activation at one scale, not yet in the graph."""
    stored, dtype = STORED_TYPES[input_format(layer).name], FLOAT_TYPES[layer.scale_dtype]
    scale_value = _constant(graph, f"{prefix}.scale", scale, dtype)
    zero = _constant(graph, f"{prefix}.zero", torch.zeros(()), stored)
    quantized = ir.node("QuantizeLinear", [source, scale_value, zero])
    restored = ir.node("DequantizeLinear", [quantized.outputs[0], scale_value, zero])
    _declare(quantized, f"{prefix}.q", stored, source.shape)
    _declare(restored, f"{prefix}.dq", dtype, source.shape)
    return [quantized, restored]


def _dequantized_weight(graph: ir.Graph, weight: _Weight, layer: QuantizedLayer, scheme: Scheme) -> ir.Value:
    stored, scale = _store_weight(graph, weight, layer, scheme)
    attributes = {}
    if layer.group:
        attributes = {"axis": 0 if weight.is_transposed else 1, "block_size": layer.group}
    elif layer.weight_axis is not None:
        attributes = {"axis": 1 if weight.is_transposed else 0}
    zero = []
    if not layer.group:  # a zero point a block would only cost: without one it is 0
        shape = _scale_shape(weight, layer)
        zero = [_constant(graph, f"{weight.name}.zero", torch.zeros(shape), STORED_TYPES[scheme.weights.name])]
    restored = ir.node("DequantizeLinear", [stored, scale, *zero], attributes=attributes)
    graph.insert_before(weight.node, restored)
    return _declare(restored, f"{weight.name}.dq", FLOAT_TYPES[layer.scale_dtype], stored.shape)


def _store_weight(graph: ir.Graph, weight: _Weight, layer: QuantizedLayer, scheme: Scheme) -> tuple[ir.Value, ir.Value]:
    """A weight's place taken by its quantized values and their scales, both lazy."""
    name, dtype, stored_dtype = weight.name, FLOAT_TYPES[layer.scale_dtype], STORED_TYPES[scheme.weights.name]

    found: list[torch.Tensor] = []  # scales, until they are written behind the values: a weight is read once

    def quantized() -> ir.TensorProtocol:
        packed = [scheme.pack(rows, layer) for rows in weight.load_rows(layer)]
        found[:] = [join_rows([part["scale"] for part in packed])]
        result = join_rows([part.pop("stored") for part in packed])
        return to_ir(result.transpose(0, 1) if weight.is_transposed else result, stored_dtype, name)

    def scales() -> ir.TensorProtocol:
        # [out], [out, in / group] or a scalar
        value = found.pop() if found else join_rows([scheme.weight_scale(rows, layer) for rows in weight.load_rows(layer)])
        if layer.group:
            tail = (1,) * (len(shape) - 2)
            value = value.t() if weight.is_transposed else value.reshape(*value.shape, *tail).expand(shape)
        return to_ir(_hold_scales(value.reshape(shape), dtype, layer, name), dtype, f"{name}.scale")

    shape = _scale_shape(weight, layer)
    whole = ir.LazyTensor(quantized, dtype=stored_dtype, shape=ir.Shape(weight.stored_shape))
    stored = register(graph, f"{name}.{scheme.weights.name}", whole)
    scale = register(graph, f"{name}.scale", ir.LazyTensor(scales, dtype=dtype, shape=ir.Shape(shape)))
    del graph.initializers[name]
    return stored, scale


def _hold_scales(scales: torch.Tensor, dtype: ir.DataType, layer: QuantizedLayer, name: str) -> torch.Tensor:
    """Scales as the graph's type holds them: in half precision none becomes 0, which TensorRT's parser refuses.

    One below the smallest normal number is off by up to 2^-25, and the largest value of its row by qmax times that: of a row at
    that number an eighth of its rounding to 8 bits, half a step; FP8 rounds its largest values to 32 steps.

    Raises:
        InputError: all rows are so small that this is more than an eighth.
    """
    if dtype != ir.DataType.FLOAT16:
        return scales
    least = smallest_normal("fp16") / (8 if load_scheme(layer.scheme).weights.is_float else 1)
    if scales.max() < least:
        raise InputError(
            f"layer {name.removesuffix('.transposed').removesuffix('.weight')!r}: its largest weight scale is "
            f"{scales.max().item():.3g}, and half precision has the digits it takes from {least:.3g} on; leave the layer "
            "'float' in the recipe"
        )
    return scales.clamp_min(SMALLEST_HALF)


def join_rows(parts: list[torch.Tensor]) -> torch.Tensor:
    """Slices of rows one after the other; they are used up, so that never more than one is there twice."""
    if len(parts) == 1:
        return parts.pop()
    whole, start = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:]), 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _scale_shape(weight: _Weight, layer: QuantizedLayer) -> list[int]:
    """Of a weight as the graph has it: none, its output channels, or its own with the input values in blocks."""
    if layer.weight_axis is None:
        return []
    if not layer.group:
        return [weight.handle.shape[0]]
    inner = 0 if weight.is_transposed else 1
    return [size // layer.group if axis == inner else size for axis, size in enumerate(weight.stored_shape)]


def _declare(node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    value = node.outputs[0]
    node.name = value.name = name
    value.type, value.shape = ir.TensorType(dtype), shape
    return value


def _constant(graph: ir.Graph, name: str, value: torch.Tensor, dtype: ir.DataType) -> ir.Value:
    return register(graph, name, to_ir(value, dtype, name))
