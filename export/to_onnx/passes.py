"""Graph passes between capture and Q/DQ, in one ordered list with the reason each stands where it does.

A pass takes the model and edits it; none of them pulls a large weight: where one must change it (a transpose), it wraps the
lazy tensor in another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common as common_passes

from sprint_export.export.to_onnx.tensors import sizes

FOLDING_ROUNDS = 2  # the first turns sequences into tensors, the second folds what became constant by that
SMALL = 1024  # values up to this many elements may be read while folding constants


def fold_small_constants(model: ir.Model) -> None:
    """Evaluate what depends on small constants only (shapes, ranges, scalars), until nothing more does.

    Not `onnxscript.optimizer.optimize`: on the 0.6B transformer its rewrite rules took 75 s beside another job, folding alone
    0.5 s; they pull weights to look at them, and the engines had the same kernels without them (sprint-tiny, all three).
    """
    common_passes.InlinePass()(model)
    for _ in range(FOLDING_ROUNDS):
        onnxscript.optimizer.fold_constants(model, input_size_limit=SMALL, output_size_limit=512 * 512)
        common_passes.RemoveUnusedNodesPass()(model)
    common_passes.IdentityEliminationPass()(model)
    common_passes.CommonSubexpressionEliminationPass()(model)


def lift_constants(model: ir.Model) -> None:
    """Constant nodes become initializers, so that a tensor has one form wherever it comes from."""
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def transpose_weights(model: ir.Model) -> None:
    """Transpose(W) with W an initializer becomes an initializer W^T: [out, in] -> [in, out], lazily."""
    graph = model.graph
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is None or source.name is None or source.const_value is None or source.name not in graph.initializers:
            continue
        permutation = list(node.attributes["perm"].as_ints())
        target = node.outputs[0]
        name = f"{source.name}.transposed"
        if name not in graph.initializers:
            graph.register_initializer(_initializer(name, _transposed(source.const_value, permutation), source.dtype))
        ir.convenience.replace_all_uses_with(target, graph.initializers[name])
        graph.remove(node, safe=True)


def _initializer(name: str, tensor: ir.TensorProtocol, dtype: ir.DataType | None) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(sizes(tensor)), type=ir.TensorType(dtype or tensor.dtype), const_value=tensor)


def _transposed(tensor: ir.TensorProtocol, permutation: list[int]) -> ir.LazyTensor:
    shape = ir.Shape([sizes(tensor)[axis] for axis in permutation])

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(tensor.numpy().transpose(permutation)), dtype=tensor.dtype)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=shape, name=f"{tensor.name}.transposed")


def write_out_reshapes(model: ir.Model) -> None:
    """Reshape(x, computed) -> Reshape(x, constants) where no more than one axis of the result is free, which is written as -1.

    What is computed is arithmetic on free sizes, so this fires only where there are some; a runtime knows the shape then.
    """
    for node in model.graph:
        shape, target = node.outputs[0].shape, node.inputs[1] if node.op_type == "Reshape" else None
        if target is None or shape is None or target.name in model.graph.initializers:
            continue
        numbers = [size if isinstance(size, int) else -1 for size in shape]
        if numbers.count(-1) <= 1:
            name = "shape." + "x".join(map(str, numbers))
            if name not in model.graph.initializers:
                value = ir.Tensor(np.array(numbers, np.int64), name=name)
                model.graph.register_initializer(_initializer(name, value, ir.DataType.INT64))
            node.replace_input_with(1, model.graph.initializers[name])


def remove_unused(model: ir.Model) -> None:
    """Nodes and initializers that nothing reads any more."""
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.RemoveUnusedOpsetsPass()(model)


def strip_metadata(model: ir.Model) -> None:
    """Stack traces, class names and file paths: 4 MB of a 0.6B graph, and they differ from machine to machine."""
    model.metadata_props.clear()
    model.doc_string = None
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None


ORDER: tuple[tuple[Callable[[ir.Model], None], str], ...] = (
    (transpose_weights, "first: the folder would evaluate a Transpose of any size; makes a Linear a MatMul with a plain weight"),
    (fold_small_constants, "removes the sequence and shape ops"),
    (lift_constants, "then constants have one form, whoever made them"),
    (write_out_reshapes, "what is constant is an initializer by now, so a shape that is none was computed"),
    (remove_unused, "after written-out shapes, whose arithmetic nothing reads any more"),
    (strip_metadata, "last: earlier passes may still read names"),
)


def run_passes(model: ir.Model) -> ir.Model:
    """Run all passes in order, in place."""
    for run, _ in ORDER:
        run(model)
    return model
