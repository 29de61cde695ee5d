"""A low-rank branch beside a product: two small products in the graph's float type, added to what the layer gives.

    y = x' W_q + (x A^T) B^T        A [rank, in], B [out, rank]; x as it reaches the layer, before anything is rounded
The factors are computed from the weight when their bytes are asked for. Covered: a MatMul; a plain 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch

from sprint_export.export.to_onnx.graph_editor import declare, register
from sprint_export.export.to_onnx.tensors import FLOAT_TYPES, to_ir
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import split_weight
from sprint_export.quantize.schemes.scheme import load_scheme


def add_branch(
    graph: ir.Graph,
    node: ir.Node,
    source: ir.Value,
    layer: QuantizedLayer,
    shape: Sequence[int],
    load: Callable[[], torch.Tensor],
) -> ir.Node:
    """Behind a MatMul or Conv: what reads its output reads the sum instead, whose node is returned.

    Args:
        graph: edited in place.
        node: reads the layer's weight.
        source: what the layer read before anything was rounded.
        layer: how it is quantized.
        shape: of the weight as torch stores it, [out, in, ...].
        load: makes that weight.
    """
    result, dtype = node.outputs[0], FLOAT_TYPES[layer.scale_dtype]
    is_conv, name = node.op_type == "Conv", str(result.name)
    users = list(result.uses())
    rank = load_scheme(layer.scheme).rank

    def factor(place: int) -> ir.Value:
        def compute() -> ir.TensorProtocol:
            branch = split_weight(load(), layer)[1]
            assert branch is not None
            value = branch[place][..., None, None] if is_conv else branch[place].T
            return to_ir(value.contiguous(), dtype, f"{name}.branch.{place}")

        matrix = ((rank, shape[1]), (shape[0], rank))[place]
        stored = ir.Shape((*matrix, 1, 1) if is_conv else matrix[::-1])
        return register(graph, f"{name}.branch.{place}", ir.LazyTensor(compute, dtype=dtype, shape=stored))

    down = ir.node(node.op_type, [source, factor(0)])
    up = ir.node(node.op_type, [down.outputs[0], factor(1)])
    total = ir.node("Add", [result, up.outputs[0]])
    for step, label, known in ((down, "down", None), (up, "up", result.shape), (total, "sum", result.shape)):
        step.name = f"{name}.branch.{label}"
        declare(step.outputs[0], step.name, None if known is None else tuple(known), dtype)
    graph.insert_after(node, [down, up, total])
    for use in users:
        use.node.replace_input_with(use.idx, total.outputs[0])
    return total
