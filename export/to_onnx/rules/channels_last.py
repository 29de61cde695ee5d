"""What lies between tokens and tokens is computed channels last: no transpose is left, and 1x1 convolutions are products.

    [B, N, C] -> [B, h, w, C] -> [B, C, h, w] -> ... -> [B, C, N] -> [B, N, C]
becomes the same chain on [B, h, w, C]. A LayerNorm whose result is transposed is cut in two kernels by TensorRT for RTX, with
float32 written between; without the transpose it is one, with the residual before it and Q after it.

Every transpose back to tokens is followed up: each value [B, C, h, w] before it gets a twin [B, h, w, C], node by node, until a
transpose from tokens (or a graph input, which is transposed once) is met. Where one node has no twin, the chain stays as it is.
Covered: Q/DQ, 1x1 Conv, Split of channels, Pad and Slice of pixels, elementwise nodes. Weights are transposed lazily.
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import (
    GraphEditor,
    bias_of,
    extent,
    is_constant,
    maker,
    permutation_of,
    shape_of,
    view_tensor,
)
from sprint_export.export.to_onnx.rule import NodeRule

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
AXES = {0: 0, 1: 3, 2: 1, 3: 2}  # where an axis of [B, C, h, w] is in [B, h, w, C]
ELEMENTWISE = ("Cast", "Sigmoid", "Mul", "Add", "Relu", "Clip", "QuantizeLinear", "DequantizeLinear")


class _NoTwinError(Exception):
    """A node before a transpose has no form channels last."""


class ChannelsLast(NodeRule):
    """Every chain that ends in Reshape [B, C, h, w] -> [B, C, N] and Transpose -> [B, N, C]; by hand, as it has any length."""

    serves = "tokens as a picture"

    def __init__(self) -> None:
        self._twins: dict[ir.Value, ir.Value] = {}  # of all chains, which share some

    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        reshape = maker(node.inputs[0], "Reshape") if node.op_type == "Transpose" and permutation_of(node) == (0, 2, 1) else None
        image = None if reshape is None else reshape.inputs[0]
        if image is None or len(shape_of(image)) != 4 or shape_of(image)[:2] != shape_of(node.inputs[0])[:2]:
            return False
        try:
            twin = _Twins(model.graph, node, self._twins).of(image)
        except _NoTwinError:
            return False
        op = GraphEditor(model.graph, node, f"{node.outputs[0].name}.last")
        ir.convenience.replace_all_uses_with(node.outputs[0], op.reshape(twin, shape_of(node.outputs[0])))
        return True


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
        shape = shape_of(value)
        if not shape:
            return value
        if len(shape) != 4:
            raise _NoTwinError
        turned = [shape[axis] for axis in TO_LAST]
        return self._editor(value).constant(view_tensor(value.const_value, turned, lambda array: array.transpose(TO_LAST)))

    def _product(self, node: ir.Node) -> ir.Value:
        """A 1x1 convolution as x W^T + b over the last axis."""
        dequantize = maker(node.inputs[1], "DequantizeLinear")
        stored = node.inputs[1] if dequantize is None else dequantize.inputs[0]
        plain = all(set(node.attributes[name].as_ints()) == {value} for name, value in (("pads", 0), ("strides", 1)))
        if stored is None or not is_constant(stored) or shape_of(stored)[2:] != (1, 1) or not plain:
            raise _NoTwinError
        if node.attributes["group"].as_int() != 1 or node.inputs[0] is None:
            raise _NoTwinError
        source, wide, narrow = self.of(node.inputs[0]), extent(stored, 0), extent(stored, 1)
        op = self._editor(node.outputs[0])
        turned = view_tensor(stored.const_value, (narrow, wide), lambda array: array.reshape(wide, narrow).T)
        matrix = op.constant(turned, f"{stored.name}.transposed")
        if dequantize is not None:
            matrix = op.dequantize_transposed(matrix, dequantize)
        y, bias = op.MatMul(source, matrix), bias_of(node.outputs[0])
        return y if bias is None else op.Add(y, bias)

    def _editor(self, value: ir.Value) -> GraphEditor:
        return GraphEditor(self.graph, self.before, f"{value.name}.last.{len(self.known)}")


RULE = ChannelsLast
