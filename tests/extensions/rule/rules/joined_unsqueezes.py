"""Axes that are added one after the other are added by one Reshape.

    unsqueeze(unsqueeze(x, a), b) = reshape(x, shape)
Covered: any type, at most one free axis, an inner value that nothing else reads.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import GraphEditor, shape_of
from sprint_export.export.to_onnx.rule import PatternRule


class JoinedUnsqueezes(PatternRule):
    """Every Unsqueeze of an Unsqueeze."""

    serves = "masked attention"  # each reads its mask so

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Unsqueeze(op.Unsqueeze(x, ANY_VALUE), ANY_VALUE, _outputs=["y"])

    def check(self, y: ir.Value, **_: ir.Value) -> bool:
        return sum(not isinstance(size, int) for size in shape_of(y)) <= 1

    def rewrite(self, op: GraphEditor, x: ir.Value, y: ir.Value) -> ir.Value:
        return op.reshape(x, shape_of(y))


RULE = JoinedUnsqueezes
