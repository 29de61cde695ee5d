"""Softmax attention with its heads split at rank 3 instead of rank 4 with a batch of 1.

    softmax(q k^T + bias) v,   q [H, S, d],  k, v [H, T, d],  each a view of [1, S or T, H d]
The values are the same. At rank 4 TensorRT for RTX writes q, k and v once more in another order, which splits the norm before
it into two kernels with float32 between; at rank 3 the attention kernel reads them with strides where they are. ONNX Runtime's
FusedMatMul, too, takes the transposes of rank 3 into the product, and those of rank 4 not.

Covered: batch 1, as many heads for k and v as for q, a bias [1, 1, 1 or S, T]. Anything else is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, maker, only_user, permutation_of, shape_of
from sprint_export.export.to_onnx.passes import remove_unused
from sprint_export.export.to_onnx.rules.linear_attention import SPLIT_HEADS, SWAP_LAST


@dataclass(frozen=True)
class SoftmaxAttention:
    """What an attention reads, q [1, S, H d], k and v [1, T, H d], a bias [1, 1, 1 or S, T], and nodes to change it at."""

    q: ir.Value
    k: ir.Value
    v: ir.Value
    bias: ir.Value
    heads: int
    split_keys: ir.Node  # Reshape of k
    biased: ir.Node  # Add of the bias to the scores
    joined: ir.Node  # Reshape of the heads side by side


def rewrite(model: ir.Model) -> None:
    """Replace every softmax attention of the form above, in place."""
    for found in find_attentions(model.graph):
        _replace(model.graph, found)
    remove_unused(model)


def find_attentions(graph: ir.Graph) -> list[SoftmaxAttention]:
    """Every softmax attention of the form above."""
    found = [_match(node) for node in graph if node.op_type == "Softmax"]
    return [attention for attention in found if attention is not None]


def _match(softmax: ir.Node) -> SoftmaxAttention | None:
    biased, mixed = maker(softmax.inputs[0], "Add"), only_user(softmax.outputs[0], "MatMul")
    scores = None if biased is None else maker(biased.inputs[0], "MatMul")
    turned = None if mixed is None else only_user(mixed.outputs[0], "Transpose")
    joined = None if turned is None else only_user(turned.outputs[0], "Reshape")
    swapped = None if scores is None else maker(scores.inputs[1], "Transpose")
    if scores is None or biased is None or mixed is None or turned is None or joined is None or swapped is None:
        return None
    bias, heads = biased.inputs[1], extent(softmax.outputs[0], 1)
    splits = [_split(value, heads) for value in (scores.inputs[0], swapped.inputs[0], mixed.inputs[1])]
    q, k, v = (None if split is None else split.inputs[0] for split in splits)
    orders = permutation_of(swapped), permutation_of(turned)
    if q is None or k is None or v is None or bias is None or shape_of(bias)[:2] != (1, 1) or orders != (SWAP_LAST, SPLIT_HEADS):
        return None
    assert splits[1] is not None
    return SoftmaxAttention(q, k, v, bias, heads, splits[1], biased, joined)


def _replace(graph: ir.Graph, found: SoftmaxAttention) -> None:
    output, heads = found.joined.outputs[0], found.heads
    assert output.name is not None
    editor = GraphEditor(graph, found.joined, output.name)
    queries, rows = shape_of(found.q)[1], shape_of(found.k)[1]
    size, wide = shape_of(found.q)[2] // heads, shape_of(found.v)[2] // heads
    q = editor.transpose(editor.reshape(found.q, (queries, heads, size)), (1, 0, 2))
    k = editor.transpose(editor.reshape(found.k, (rows, heads, size)), (1, 2, 0))
    v = editor.transpose(editor.reshape(found.v, (rows, heads, wide)), (1, 0, 2))
    shape = (heads, queries, rows)
    p, bias = editor.add("MatMul", [q, k], shape), editor.reshape(found.bias, shape_of(found.bias)[1:])
    p = editor.add("Softmax", [editor.add("Add", [p, bias], shape)], shape, axis=-1)
    y = editor.transpose(editor.add("MatMul", [p, v], (heads, queries, wide)), (1, 0, 2))
    ir.convenience.replace_all_uses_with(output, editor.reshape(y, (1, queries, heads * wide)))


def _split(value: ir.Value | None, heads: int) -> ir.Node | None:
    """The Reshape of [1, N, H d] of which the value is the split heads."""
    transpose = maker(value, "Transpose")
    reshape = None if transpose is None else maker(transpose.inputs[0], "Reshape")
    if transpose is None or reshape is None or permutation_of(transpose) != SPLIT_HEADS or shape_of(value)[1] != heads:
        return None
    source = shape_of(reshape.inputs[0])
    return reshape if len(source) == 3 and source[0] == 1 else None
