"""The two halves of a gated convolution are computed apart, so that neither is cut out of the other afterwards.

    [a g] = split(D(silu(P x)))        ->      a = D_a(silu(P_a x)),   g = D_g(silu(P_g x))
P is dense and 1x1, D depthwise; their output channels, rows of weight, scale and bias, go to the half they belong to. Values are
the same. ONNX Runtime's Split copies both halves out of a blocked layout; now the gate's product happens in that layout, and
working sets are half as large: 28 blocks of 5760 channels at 32x32 spare some 2 ms each on two cores.

Covered: Split along channels behind convolutions and SiLUs that nothing else reads, down to a dense convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, is_constant, maker, shape_of
from sprint_export.export.to_onnx.rule import NodeRule

CHANNELS = 1
ROUNDING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class _Part:
    """Channels [start, stop) of a value with `total` of them; which of the parts it is."""

    index: int
    start: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


class SeparateGate(NodeRule):
    """Every such Split; by hand, since the way up to the dense convolution is a recursion."""

    serves = "gated convolution"

    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        is_split = node.op_type == "Split" and "axis" in node.attributes and node.attributes["axis"].as_int() == CHANNELS
        if not is_split or not _can_divide(node.inputs[0], {node}):
            return False
        start = 0
        for index, output in enumerate(node.outputs):
            part = _Part(index, start, start + extent(output, CHANNELS))
            ir.convenience.replace_all_uses_with(output, _divide(model.graph, node, node.inputs[0], part))
            start = part.stop
        return True


def _can_divide(value: ir.Value | None, readers: set[ir.Node]) -> bool:
    """Whether some channels of a value, which nobody else reads, can be computed without the others."""
    node = None if value is None else value.producer()
    if value is None or node is None or value.is_graph_output() or {use.node for use in value.uses()} != readers:
        return False
    if node.op_type in ROUNDING:
        return shape_of(node.inputs[1]) == () and _can_divide(node.inputs[0], {node})
    if node.op_type == "Mul":
        sigmoid = _sigmoid(node)
        return sigmoid is not None and _can_divide(node.inputs[0], {sigmoid, node})
    if node.op_type != "Conv" or not all(_has_rows(operand) for operand in node.inputs[1:]):
        return False
    return _groups(node) == 1 or (_is_depthwise(node) and _can_divide(node.inputs[0], {node}))


def _sigmoid(product: ir.Node) -> ir.Node | None:
    """The Sigmoid in a SiLU x sigmoid(x)."""
    sigmoid = maker(product.inputs[1], "Sigmoid")
    return sigmoid if sigmoid is not None and sigmoid.inputs[0] is product.inputs[0] else None


def _groups(convolution: ir.Node) -> int:
    return convolution.attributes["group"].as_int() if "group" in convolution.attributes else 1


def _is_depthwise(convolution: ir.Node) -> bool:
    return _groups(convolution) == shape_of(convolution.inputs[0])[CHANNELS] == shape_of(convolution.inputs[1])[0]


def _has_rows(operand: ir.Value | None) -> bool:
    """A stored tensor with a row for each channel, or a quantized one with one scale, or with scales for each row."""
    if operand is None or is_constant(operand):
        return True
    node = maker(operand, "DequantizeLinear")
    return node is not None and all(is_constant(value) for value in node.inputs)


def _divide(graph: ir.Graph, before: ir.Node, value: ir.Value | None, part: _Part) -> ir.Value:
    """These channels of a value, computed alone."""
    node = None if value is None else value.producer()
    assert value is not None and node is not None
    is_dense = node.op_type == "Conv" and _groups(node) == 1
    x = node.inputs[0] if is_dense else _divide(graph, before, node.inputs[0], part)
    assert x is not None
    editor = GraphEditor(graph, before, f"{value.name}.part{part.index}")
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if node.op_type == "Conv":
        operands = [x, *(_rows(editor, operand, part) for operand in node.inputs[1:] if operand is not None)]
        attributes["group"] = 1 if is_dense else part.width
    elif node.op_type == "Mul":
        operands = [x, editor.Sigmoid(x)]
    else:
        operands = [operand for operand in (x, *node.inputs[1:]) if operand is not None]
    batch, _, *rest = shape_of(value)
    return editor.add(node.op_type, operands, (batch, part.width, *rest), value.dtype, **attributes)


def _rows(editor: GraphEditor, operand: ir.Value, part: _Part) -> ir.Value:
    """A weight's, bias's or scale's rows for these channels; a single scale serves all of them."""
    node, shape = maker(operand, "DequantizeLinear"), shape_of(operand)
    if node is not None:
        parts = [_rows(editor, value, part) for value in node.inputs if value is not None]
        block = node.attributes.get_int("block_size", 0)
        axis: dict[str, Any] = {"axis": 1, "block_size": block} if block else {"axis": 0}
        return editor.add(node.op_type, parts, (part.width, *shape[1:]), operand.dtype, **axis)
    if not shape:
        return operand
    name = f"{operand.name}.part{part.index}"
    rows = slice(part.start, part.stop)
    return editor.view(name, operand, (part.width, *shape[1:]), lambda array: array[rows])


RULE = SeparateGate
