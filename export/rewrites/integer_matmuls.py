"""A quantized MatMul keeps its bias apart, so that ONNX Runtime multiplies integers.

    x W + b,  b [N]   ->   x W + b',  b' [1, ..., 1, N] of x's rank
ONNX Runtime turns MatMul + Add into Gemm before it looks at Q/DQ, and Gemm with a float bias has no integer kernel: it would
dequantize the weight at every run. A bias of higher rank does not fit Gemm; the MatMul then becomes MatMulIntegerToFloat.
Quantizing the bias to INT32 would make it QGemm, which measured no faster than the separate Add, and would round.
Covered: both sides quantized, rank 3 and more. A rank of 2 does fit Gemm and is left alone.
"""

from __future__ import annotations

import onnx_ir as ir

from sprint_export.export.rewrites.edits import is_constant, maker, only_reader, shape_of, view_initializer


def rewrite(model: ir.Model) -> None:
    """Raise the rank of every bias that follows a quantized MatMul, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "MatMul" or any(maker(value, "DequantizeLinear") is None for value in node.inputs):
            continue
        add, shape = only_reader(node.outputs[0]), shape_of(node.inputs[0])
        if add is None or add.op_type != "Add" or shape is None or len(shape) < 3:
            continue
        side = 1 if add.inputs[0] is node.outputs[0] else 0
        bias = add.inputs[side]
        if bias is not None and is_constant(bias) and len(shape_of(bias) or ()) == 1:
            wide = [*[1] * (len(shape) - 1), *(shape_of(bias) or ())]
            name = f"{bias.name}.rank{len(shape)}"
            if name not in graph.initializers:
                view_initializer(graph, name, bias, wide, lambda array, wide=wide: array.reshape(wide))
            add.replace_input_with(side, graph.initializers[name])
            if not bias.uses():
                del graph.initializers[str(bias.name)]
