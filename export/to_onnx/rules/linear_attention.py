"""Linear attention in 16 bits, its denominator a column of its numerator.

    S = k^T [v 1]  in R^(d x (d + 8))         [num den] = q S         y = num / (den + eps)
for q, k >= 0 of each head. The eight ones (one would do; 16 bytes are a unit of memory) make S carry the sum of keys, so the
denominator costs neither a reduction over tokens nor one over heads. Products run in the graph's 16-bit type, which is safe
because keys carry 1 / N (sana_sprint/folds.py: sums are means) and a gemm accumulates in float32 whatever its operands are;
the graph before it holds q, k, v and S in float32. Heads are split at rank 3, [N, H, d] to [H, N, d]: at rank 4 with a batch of
1 TensorRT for RTX copies each operand instead of reading it with strides.

Covered: batch 1, the form of students/sana_sprint/transformer.py, tokens whose number is known. Other forms are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import (
    GraphEditor,
    Size,
    extent,
    is_constant,
    maker,
    only_user,
    permutation_of,
    shape_of,
)
from sprint_export.export.to_onnx.passes import remove_unused

ONES = 8  # columns of ones: 16 bytes in a 16-bit type
SPLIT_HEADS = (0, 2, 1, 3)  # [B, N, H, d] <-> [B, H, N, d]
SWAP_LAST = (0, 1, 3, 2)


@dataclass(frozen=True)
class LinearAttention:
    """What an attention reads, [1, N, D] each before ReLU, and the value [1, N, D] it ends in."""

    q: ir.Value
    k: ir.Value
    v: ir.Value
    heads: int
    epsilon: float
    output: ir.Value

    @property
    def sizes(self) -> tuple[Size, int, int]:
        """N, heads, and the width d of a head."""
        return shape_of(self.q)[1], self.heads, extent(self.q, 2) // self.heads


def rewrite(model: ir.Model) -> None:
    """Replace every linear attention, in place."""
    for found in find_attentions(model.graph):
        _replace(model.graph, found)
    remove_unused(model)


def find_attentions(graph: ir.Graph) -> list[LinearAttention]:
    """Every linear attention of the form above."""
    found = [_match(node) for node in graph if node.op_type == "Div"]
    return [attention for attention in found if attention is not None]


def start_replacement(graph: ir.Graph, found: LinearAttention) -> tuple[GraphEditor, ir.Value, ir.Value]:
    """An editor where the attention ends, and its q and k after ReLU, [1, N, D]."""
    node = found.output.producer()
    assert node is not None and found.output.name is not None
    editor = GraphEditor(graph, node, found.output.name)
    q, k = (editor.add("Relu", [value], shape_of(value)) for value in (found.q, found.k))
    return editor, q, k


def _match(division: ir.Node) -> LinearAttention | None:
    """The attention that ends in a division: (q (k^T v)) / (sum(q sum(k)) + eps)."""
    product, shifted = maker(division.inputs[0], "MatMul"), maker(division.inputs[1], "Add")
    if product is None or shifted is None:
        return None
    q_heads, summary = product.inputs[0], maker(product.inputs[1], "MatMul")
    swapped = None if summary is None else maker(summary.inputs[0], "Transpose")
    if summary is None or swapped is None or permutation_of(swapped) != SWAP_LAST:
        return None
    k_heads, total = swapped.inputs[0], maker(shifted.inputs[0], "ReduceSum")
    weighted = None if total is None else maker(total.inputs[0], "Mul")
    if weighted is None or weighted.inputs[0] is not q_heads or not is_constant(shifted.inputs[1]):
        return None
    summed = maker(weighted.inputs[1], "ReduceSum")
    q, k, v = _tokens(q_heads, rectified=True), _tokens(k_heads, rectified=True), _tokens(summary.inputs[1], rectified=False)
    output = _joined(division.outputs[0])
    if summed is None or summed.inputs[0] is not k_heads or q is None or k is None or v is None or output is None:
        return None
    epsilon = shifted.inputs[1]
    assert epsilon is not None and epsilon.const_value is not None
    return LinearAttention(q, k, v, extent(q_heads, 1), float(epsilon.const_value.numpy()), output)


def _tokens(value: ir.Value | None, rectified: bool) -> ir.Value | None:
    """[1, N, D] of which the value is the split heads, after a Cast and, where `rectified`, a ReLU."""
    relu = maker(value, "Relu")
    if (relu is not None) != rectified:
        return None
    value = value if relu is None else relu.inputs[0]
    cast = maker(value, "Cast")
    transpose = maker(value if cast is None else cast.inputs[0], "Transpose")
    reshape = None if transpose is None else maker(transpose.inputs[0], "Reshape")
    if transpose is None or reshape is None or permutation_of(transpose) != SPLIT_HEADS:
        return None
    if shape_of(reshape.inputs[0])[:1] != (1,):
        return None
    return reshape.inputs[0]


def _joined(value: ir.Value) -> ir.Value | None:
    """[1, N, D] where the heads are side by side again, after a Cast if there is one."""
    transpose = only_user(value, "Transpose")
    reshape = None if transpose is None else only_user(transpose.outputs[0], "Reshape")
    if transpose is None or reshape is None or permutation_of(transpose) != SPLIT_HEADS:
        return None
    cast = only_user(reshape.outputs[0], "Cast")
    return (cast or reshape).outputs[0]


def _replace(graph: ir.Graph, found: LinearAttention) -> None:
    editor, q, k = start_replacement(graph, found)
    tokens, (_, heads, size) = extent(found.q, 1), found.sizes
    q, k, v = (editor.reshape(value, (tokens, heads, size)) for value in (q, k, found.v))
    shape = (tokens, heads, ONES)
    ones = editor.add("Expand", [editor.filled(1.0, v.dtype, (1, 1, 1)), editor.ints(shape)], shape)
    v = editor.add("Concat", [v, ones], (tokens, heads, size + ONES), axis=2)
    q, k, v = editor.transpose(q, (1, 0, 2)), editor.transpose(k, (1, 2, 0)), editor.transpose(v, (1, 0, 2))
    summary = editor.add("MatMul", [k, v], (heads, size, size + ONES))
    y = editor.transpose(editor.add("MatMul", [q, summary], (heads, tokens, size + ONES)), (1, 0, 2))
    numerator, denominator, _ = editor.split(y, (size, 1, ONES - 1))
    denominator = editor.add("Add", [denominator, editor.filled(found.epsilon, y.dtype)], (tokens, heads, 1))
    y = editor.reshape(editor.add("Div", [numerator, denominator], (tokens, heads, size)), (1, tokens, heads * size))
    ir.convenience.replace_all_uses_with(found.output, y)
