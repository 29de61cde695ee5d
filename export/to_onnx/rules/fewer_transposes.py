"""Transposes move past what acts on single values, and go where they meet their inverse.

    1. T(x / s rounded)        = (T x) / s rounded                      a Transpose behind Q/DQ goes before it
    2. T(x) sigmoid(T(x))      = T(x sigmoid(x))                        a Transpose before a SiLU goes behind it
    3. T2(T1(x))               = x where T2 is T1's inverse
    4. [B, h, w, C] -> [B, C, h, w] -> [B, C, h w] -> [B, h w, C]       is a Reshape
What is left stands right before or behind a convolution, where ONNX Runtime takes it into the reordering to its blocked layout,
and every quantized MatMul reads its DequantizeLinear.
Covered: Q/DQ per tensor, all of whose readers transpose alike. What has other readers stays where it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import (
    GraphEditor,
    literal_shape,
    maker,
    permutation_of,
    replace,
    shape_of,
)
from sprint_export.export.to_onnx.rule import NodeRule, PatternRule

ROUNDS = 8  # each moves a Transpose past one neighbour; a block needs four


class HoistAboveRounding(NodeRule):
    """1, one step above a Q or a DQ; by hand, since all of its readers move at once."""

    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        source = maker(node.inputs[0], "QuantizeLinear", "DequantizeLinear") if node.op_type == "Transpose" else None
        if source is None or source.outputs[0].is_graph_output() or shape_of(source.inputs[1]):
            return False
        readers = [use.node for use in source.outputs[0].uses()]
        if any(reader.op_type != "Transpose" or permutation_of(reader) != permutation_of(node) for reader in readers):
            return False
        x, shape = source.inputs[0], node.outputs[0].shape
        if x is None or x.shape is None or shape is None:
            return False
        turned = GraphEditor(model.graph, source, str(source.name)).transpose(x, permutation_of(node), "turned")
        source.replace_input_with(0, turned)
        rounded = source.outputs[0]
        rounded.shape = shape
        for reader in readers:
            replace(model.graph, reader, rounded)
        return True


class SinkBelowSilu(PatternRule):
    """2."""

    commutes = True

    def pattern(self, op: Any, x: Any, perm: Any) -> Any:
        turned = op.Transpose(x, perm=perm)
        return op.Mul(turned, op.Sigmoid(turned))

    def rewrite(self, op: GraphEditor, x: ir.Value, perm: ir.Attr) -> ir.Value:
        return op.transpose(op.Mul(x, op.Sigmoid(x, _name="sigmoid"), _name="silu"), perm.as_ints(), "turned")


class CancelInverse(PatternRule):
    """3."""

    removes = False

    def pattern(self, op: Any, x: Any, inner: Any, outer: Any) -> Any:
        return op.Transpose(op.Transpose(x, perm=inner), perm=outer)

    def check(self, inner: ir.Attr, outer: ir.Attr, **_: ir.Value) -> bool:
        order = inner.as_ints()
        return [order[axis] for axis in outer.as_ints()] == list(range(len(order)))

    def rewrite(self, op: GraphEditor, x: ir.Value, **_: Any) -> ir.Value:
        return x


class FlattenPixels(PatternRule):
    """4."""

    removes = False

    def pattern(self, op: Any, x: Any) -> Any:
        pixels = op.Reshape(op.Transpose(x, perm=(0, 3, 1, 2)), ANY_VALUE, _outputs=["pixels"])
        return op.Transpose(pixels, perm=(0, 2, 1), _outputs=["tokens"])

    def check(self, x: ir.Value, pixels: ir.Value, tokens: ir.Value) -> bool:
        batch, height, width, channels = shape_of(x) or (0, 0, 0, 0)
        return shape_of(pixels) == (batch, channels, height * width) and tokens.shape is not None

    def rewrite(self, op: GraphEditor, x: ir.Value, tokens: ir.Value, **_: ir.Value) -> ir.Value:
        numbers = literal_shape(shape_of(tokens))
        shape = op.shared("shape." + "x".join(map(str, numbers)), np.array(numbers, np.int64))
        return op.Reshape(x, shape, _like=tokens, _name="flat")


class FewerTransposes(NodeRule):
    """The four in turn, until none fires."""

    def __init__(self) -> None:
        self.steps = (HoistAboveRounding(), SinkBelowSilu(), CancelInverse(), FlattenPixels())

    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        fired = [step.apply_to(model, node) for step in self.steps if node.graph is not None]
        return any(fired)

    def apply(self, model: ir.Model) -> int:
        """Over and over the graph."""
        counts = [1]
        while counts[-1] and len(counts) <= ROUNDS:
            counts.append(super().apply(model))
        return sum(counts[1:])


RULE = FewerTransposes
