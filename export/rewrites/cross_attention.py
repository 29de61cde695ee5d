"""Softmax attention with its heads split at rank 3 instead of rank 4 with a batch of 1.

    softmax(q k^T + bias) v,   q [H, S, d],  k, v [H, T, d],  each a view of [1, S or T, H d]
The values are the same. At rank 4 TensorRT for RTX writes q, k and v once more in another order, which splits the norm before
it into two kernels with float32 between; at rank 3 the attention kernel reads them with strides where they are.

Covered: batch 1, as many heads for k and v as for q, a bias [1, 1, 1 or S, T]. Anything else is left alone.
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.graph_editor import GraphEditor, maker, only_user, permutation_of, shape_of
from sprint_export.export.passes import remove_unused
from sprint_export.export.rewrites.linear_attention import SPLIT_HEADS, SWAP_LAST


def rewrite(model: ir.Model) -> None:
    """Replace every softmax attention of the form above, in place."""
    for node in list(model.graph):
        if node.op_type == "Softmax":
            _rewrite_attention(model.graph, node)
    remove_unused(model)


def _rewrite_attention(graph: ir.Graph, softmax: ir.Node) -> None:
    biased, mixed = maker(softmax.inputs[0], "Add"), only_user(softmax.outputs[0], "MatMul")
    scores = None if biased is None else maker(biased.inputs[0], "MatMul")
    joined = None if mixed is None else only_user(mixed.outputs[0], "Transpose")
    output = None if joined is None else only_user(joined.outputs[0], "Reshape")
    swapped = None if scores is None else maker(scores.inputs[1], "Transpose")
    if scores is None or biased is None or mixed is None or joined is None or output is None or swapped is None:
        return
    bias, (_, heads, queries, rows) = biased.inputs[1], shape_of(softmax.outputs[0])
    q, k, v = _tokens(scores.inputs[0], heads), _tokens(swapped.inputs[0], heads), _tokens(mixed.inputs[1], heads)
    orders = permutation_of(swapped), permutation_of(joined)
    if q is None or k is None or v is None or bias is None or shape_of(bias)[:2] != (1, 1) or orders != (SWAP_LAST, SPLIT_HEADS):
        return
    name = output.outputs[0].name
    assert name is not None
    editor = GraphEditor(graph, output, name)
    size, wide = shape_of(q)[2] // heads, shape_of(v)[2] // heads
    q = editor.transpose(editor.reshape(q, (queries, heads, size)), (1, 0, 2))
    k = editor.transpose(editor.reshape(k, (rows, heads, size)), (1, 2, 0))
    v = editor.transpose(editor.reshape(v, (rows, heads, wide)), (1, 0, 2))
    shape = (heads, queries, rows)
    p = editor.add("MatMul", [q, k], shape)
    p = editor.add("Softmax", [editor.add("Add", [p, editor.reshape(bias, shape_of(bias)[1:])], shape)], shape, axis=-1)
    y = editor.transpose(editor.add("MatMul", [p, v], (heads, queries, wide)), (1, 0, 2))
    ir.convenience.replace_all_uses_with(output.outputs[0], editor.reshape(y, (1, queries, heads * wide)))


def _tokens(value: ir.Value | None, heads: int) -> ir.Value | None:
    """[1, N, H d] of which the value is the split heads."""
    transpose = maker(value, "Transpose")
    reshape = None if transpose is None else maker(transpose.inputs[0], "Reshape")
    source = None if reshape is None else reshape.inputs[0]
    if transpose is None or source is None or permutation_of(transpose) != SPLIT_HEADS or shape_of(value)[1] != heads:
        return None
    return source if len(shape_of(source)) == 3 and shape_of(source)[0] == 1 else None
