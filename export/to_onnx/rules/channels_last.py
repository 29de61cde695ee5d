"""What lies between tokens and tokens is computed channels last: no transpose is left, and 1x1 convolutions are products.

    [B, N, C] -> [B, h, w, C] -> [B, C, h, w] -> ... -> [B, C, N] -> [B, N, C]
becomes the same chain on [B, h, w, C]. A LayerNorm whose result is transposed is cut in two kernels by TensorRT for RTX, with
float32 written between; without the transpose it is one, with the residual before it and Q after it.

Every transpose back to tokens is followed up: each value [B, C, h, w] before it gets a twin [B, h, w, C], node by node, until a
transpose from tokens (or a graph input, which is transposed once) is met. Where one node has no twin, the chain stays as it is.
Covered: Q/DQ, 1x1 Conv, Split of channels, Pad and Slice of pixels, elementwise nodes. Weights are transposed lazily.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, is_constant, maker, permutation_of, shape_of
from sprint_export.export.to_onnx.passes import remove_unused
from sprint_export.export.to_onnx.tensors import sizes

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
AXES = {0: 0, 1: 3, 2: 1, 3: 2}  # where an axis of [B, C, h, w] is in [B, h, w, C]
ELEMENTWISE = ("Cast", "Sigmoid", "Mul", "Add", "Relu", "Clip", "QuantizeLinear", "DequantizeLinear")


class _NoTwinError(Exception):
    """A node before a transpose has no form channels last."""


def rewrite(model: ir.Model) -> None:
    """Rewrite every chain that ends in Reshape [B, C, h, w] -> [B, C, N] and Transpose -> [B, N, C], in place."""
    graph, twins = model.graph, dict[ir.Value, ir.Value]()
    for node in list(graph):
        reshape = maker(node.inputs[0], "Reshape") if node.op_type == "Transpose" and permutation_of(node) == (0, 2, 1) else None
        image = None if reshape is None else reshape.inputs[0]
        if image is None or len(shape_of(image)) != 4 or shape_of(image)[:2] != shape_of(node.inputs[0])[:2]:
            continue
        try:
            twin = _Twins(graph, node, twins).of(image)
        except _NoTwinError:
            continue
        editor = GraphEditor(graph, node, f"{node.outputs[0].name}.last")
        ir.convenience.replace_all_uses_with(node.outputs[0], editor.reshape(twin, shape_of(node.outputs[0])))
    remove_unused(model)


class _Twins:
    """Makes twins in front of a node; `known` is shared by all chains of a graph."""

    def __init__(self, graph: ir.Graph, before: ir.Node, known: dict[ir.Value, ir.Value]) -> None:
        self.graph, self.before, self.known = graph, before, known

    def of(self, value: ir.Value) -> ir.Value:
        """The value channels last, [B, C, h, w] -> [B, h, w, C]; a constant [1, C, 1, 1] likewise, a scalar as it is."""
        if value not in self.known:
            self._make(value)
        return self.known[value]

    def _make(self, value: ir.Value) -> None:
        node = value.producer()
        if is_constant(value):
            self.known[value] = self._constant(value)
        elif node is None:  # a graph input
            self.known[value] = self._editor(value).transpose(value, TO_LAST)
        elif node.op_type == "Transpose" and permutation_of(node) == TO_FIRST and node.inputs[0] is not None:
            self.known[value] = node.inputs[0]
        elif node.op_type == "Conv":
            self.known[value] = self._product(node)
        elif (
            (bias := maker(value, "Reshape")) and shape_of(bias.inputs[0]) == shape_of(value)[1:2] and bias.inputs[0] is not None
        ):
            self.known[value] = bias.inputs[0]  # [C] as [1, C, 1, 1]; over the last axis it broadcasts as it is
        else:
            self._copy(node)

    def _copy(self, node: ir.Node) -> None:
        """The same operator on twins; axes are renamed."""
        inputs, attributes = [v for v in node.inputs if v is not None], dict(node.attributes)
        if node.op_type in ELEMENTWISE:
            if "axis" in attributes and len(shape_of(inputs[1])) > 0:
                raise _NoTwinError
            inputs = [self.of(v) if i == 0 or node.op_type in ("Mul", "Add") else v for i, v in enumerate(inputs)]
        elif node.op_type == "Split" and node.attributes["axis"].as_int() == 1:
            inputs[0], attributes["axis"] = self.of(inputs[0]), ir.AttrInt64("axis", 3)
        elif node.op_type in ("Pad", "Slice") and len(inputs) == 4:
            inputs[0], inputs[3] = self.of(inputs[0]), self._axes(inputs[3])
        else:
            raise _NoTwinError
        copy = ir.Node("", node.op_type, inputs, attributes.values(), num_outputs=len(node.outputs), name=f"{node.name}.last")
        self.graph.insert_before(self.before, copy)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type = f"{old.name}.last", ir.TensorType(old.dtype or inputs[0].dtype or ir.DataType.UNDEFINED)
            shape = shape_of(old) or shape_of(node.inputs[0])  # what the exporter left out is elementwise
            new.shape = ir.Shape([shape[axis] for axis in TO_LAST])
            self.known[old] = new

    def _axes(self, axes: ir.Value) -> ir.Value:
        assert axes.const_value is not None
        return self._editor(axes).ints([AXES[int(axis)] for axis in axes.const_value.numpy()])

    def _constant(self, value: ir.Value) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        shape = sizes(tensor)
        if not shape:
            return value
        if len(shape) != 4:
            raise _NoTwinError
        return self._editor(value).constant(_moved(tensor, [shape[axis] for axis in TO_LAST], TO_LAST))

    def _product(self, node: ir.Node) -> ir.Value:
        """A 1x1 convolution as x W^T + b over the last axis."""
        weight = node.inputs[1]
        dequantize = maker(weight, "DequantizeLinear")
        stored = weight if dequantize is None else dequantize.inputs[0]
        plain = all(set(node.attributes[name].as_ints()) == {value} for name, value in (("pads", 0), ("strides", 1)))
        if stored is None or not is_constant(stored) or shape_of(stored)[2:] != (1, 1) or not plain:
            raise _NoTwinError
        if node.attributes["group"].as_int() != 1 or stored.const_value is None or node.inputs[0] is None:
            raise _NoTwinError
        source, output = self.of(node.inputs[0]), node.outputs[0]
        editor, wide, narrow = self._editor(output), extent(stored, 0), extent(stored, 1)
        matrix = editor.constant(_moved(stored.const_value, [narrow, wide], (1, 0, 2, 3)), f"{stored.name}.transposed")
        if dequantize is not None:
            axis = {"axis": 1} if "axis" in dequantize.attributes else {}
            scales = [v for v in dequantize.inputs[1:] if v is not None]
            matrix = editor.add("DequantizeLinear", [matrix, *scales], (narrow, wide), scales[0].dtype, **axis)
        y = editor.add("MatMul", [source, matrix], (*shape_of(source)[:3], wide))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            y = editor.add("Add", [y, node.inputs[2]], shape_of(y))
        return y

    def _editor(self, value: ir.Value) -> GraphEditor:
        return GraphEditor(self.graph, self.before, f"{value.name}.last.{len(self.known)}")


def _moved(tensor: ir.TensorProtocol, shape: list[int], order: tuple[int, ...]) -> ir.LazyTensor:
    """A constant with its axes in this order, then in this shape."""

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(tensor.numpy().transpose(order)).reshape(shape), dtype=tensor.dtype)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(shape))
