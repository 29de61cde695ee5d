"""A picture becomes tokens by moving its channels first and joining its rows after, not the other way round.

    transpose(reshape(x, [B, C, h w]), (0, 2, 1))  =  reshape(transpose(x, (0, 2, 3, 1)), [B, h w, C])
The same values in the same order. A runtime whose convolutions write channels last has the right side in memory already; the left
side makes it reorder the picture, then transpose it (OpenVINO, 1152 channels of 32 x 32: two passes gone from every block).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import GraphEditor, literal_shape, shape_of
from sprint_export.export.to_onnx.rule import PatternRule


class TokensLast(PatternRule):
    """Every flatten and transpose of a picture [B, C, h, w]."""

    serves = "tokens as a picture"
    removes = False

    def pattern(self, op: Any, picture: Any) -> Any:
        return op.Transpose(op.Reshape(picture, ANY_VALUE, _outputs=["flat"]), perm=(0, 2, 1))

    def check(self, picture: ir.Value, flat: ir.Value) -> bool:
        before, after = shape_of(picture), shape_of(flat)
        return (len(before), len(after)) == (4, 3) and before[:2] == after[:2]

    def rewrite(self, op: GraphEditor, picture: ir.Value, **_: ir.Value) -> ir.Value:
        batch, channels, height, width = shape_of(picture)
        tokens = (batch, height * width, channels)
        moved = op.transpose(picture, (0, 2, 3, 1), "last")
        shape = op.shared(f"{op.prefix}.shape", np.array(literal_shape(tokens), np.int64))
        return op.Reshape(moved, shape, _shape=tokens, _name="tokens")


RULE = TokensLast
