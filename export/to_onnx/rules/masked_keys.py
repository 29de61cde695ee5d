"""Hidden rows get keys of zero and a bias of -60 instead of -10000, so that no weight of a softmax underflows.

    softmax(q k^T + (1 - m) b) v,  b = -10000     ->     softmax(q (k m)^T + (1 - m) b') v,  b' = -60       m in {0, 1}
e^-10000 is 0, but ONNX Runtime's way there leads through denormal numbers, which processors handle in microcode: with 30 of 300
rows valid, a softmax over [16, 1024, 300] takes 11.3 ms instead of 0.9, in each of 28 blocks. (Flushing denormals cures it too.)
With k m the hidden rows' scores are exactly b', so their weight against the best valid row is e^(b' - best): at most 1e-12 while
the best score of a query is above -32, and normal while it is below 27. sprint-tiny's best scores lie between -1.1 and 14.4 (64
captions); for a student whose scores lie elsewhere, validation's comparison with torch says so.

Covered: the attentions of rules/cross_attention.py whose bias is computed from a mask, (1 - mask) * -10000.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import ANY_VALUE

from sprint_export.export.to_onnx.graph_editor import GraphEditor, Size, number_of, shape_of
from sprint_export.export.to_onnx.rules.cross_attention import SoftmaxAttention

BIAS = -60.0


class MaskedKeys(SoftmaxAttention):
    """The attention stays; its keys and its bias are replaced."""

    removes = False

    def __init__(self) -> None:
        super().__init__()
        self._biases: dict[ir.Value, ir.Value] = {}  # (1 - m) b -> (1 - m) b', which all attentions share that read one mask

    def pattern(self, op: Any, q: Any, k: Any, v: Any, one: Any, mask: Any, number: Any) -> Any:
        scaled = op.Mul(op.Sub(one, mask, _outputs=["hidden"]), number, _outputs=["scaled"])
        return self.attend(op, q, k, v, op.Unsqueeze(op.Unsqueeze(scaled, ANY_VALUE), ANY_VALUE, _outputs=["bias"]))

    def check(self, *args: Any, **values: Any) -> bool:
        number = number_of(values["number"])
        is_mask = number_of(values["one"]) == 1.0 and shape_of(values["mask"])[:1] == shape_of(values["k"])[:1]
        return super().check(**values) and is_mask and number is not None and number < BIAS

    def rewrite(
        self, op: GraphEditor, k: ir.Value, mask: ir.Value, scaled: ir.Value, biased: ir.Value, k_heads: ir.Value, **values: Any
    ) -> None:
        if scaled not in self._biases:
            self._biases[scaled] = _soften(op.graph, scaled, values["hidden"], shape_of(values["bias"]))
        _producer(biased).replace_input_with(1, self._biases[scaled])
        split = _producer(_producer(k_heads).inputs[0])
        editor = GraphEditor(op.graph, split, f"{op.prefix}.masked")
        split.replace_input_with(0, editor.Mul(k, editor.reshape(mask, (*shape_of(k)[:2], 1))))


def _soften(graph: ir.Graph, scaled: ir.Value, hidden: ir.Value, shape: tuple[Size, ...]) -> ir.Value:
    editor = GraphEditor(graph, _producer(scaled), f"{scaled.name}.soft")
    return editor.reshape(editor.Mul(hidden, editor.filled(BIAS, hidden.dtype)), shape)


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    assert node is not None
    return node


RULE = MaskedKeys
