"""An RMSNorm divides by its root, the form in which ONNX Runtime recognizes it.

    x (1 / sqrt(mean(x^2) + eps)) w   ->   x / sqrt(mean(x^2) + eps) w
torch writes rsqrt, which is exported as Sqrt and Reciprocal; ONNX Runtime finds its SimplifiedLayerNormalization by Sqrt and Div,
and that runs once over the values where the single operations run five times.
Covered: what takes a mean over the last axis. A norm that takes a sum would not be recognized, and dividing all values costs more
than multiplying them; it is left alone.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import GraphEditor
from sprint_export.export.to_onnx.rule import PatternRule


class NormDivisions(PatternRule):
    """The products with a reciprocal root of a mean."""

    serves = "RMS norm"
    removes = False
    commutes = True

    def pattern(self, op: Any, x: Any) -> Any:
        root = op.Sqrt(op.Add(op.ReduceMean(ANY_VALUE, _allow_other_inputs=True), ANY_VALUE), _outputs=["root"])
        return op.Mul(x, op.Reciprocal(root), _outputs=["quotient"])

    def rewrite(self, op: GraphEditor, x: ir.Value, root: ir.Value, quotient: ir.Value) -> ir.Value:
        return op.Div(x, root, _like=quotient, _name="divided")


RULE = NormDivisions
