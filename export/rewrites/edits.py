"""What rewrites share: new nodes and initializers, and questions about a graph, in the words of onnx_ir."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sprint_export.export.tensors import sizes


def add_node(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    shape: Sequence[int] | None,
    dtype: ir.DataType | None = None,
    **attributes: int | Sequence[int],
) -> ir.Value:
    """Insert a node with one output in front of another; returns the output, of the first input's type unless told."""
    node = ir.node(op_type, inputs, attributes=dict(attributes))
    node.name = name
    value = node.outputs[0]
    dtype = inputs[0].dtype if dtype is None else dtype
    value.name, value.shape = name, None if shape is None else ir.Shape(shape)
    value.type = None if dtype is None else ir.TensorType(dtype)
    graph.insert_before(before, node)
    return value


def add_constant(graph: ir.Graph, name: str, value: npt.NDArray[np.generic]) -> ir.Value:
    """A small initializer; one that is there already under that name is used again."""
    if name not in graph.initializers:
        register(graph, name, ir.Tensor(value, name=name))
    return graph.initializers[name]


def view_initializer(
    graph: ir.Graph,
    name: str,
    source: ir.Value,
    shape: Sequence[int],
    view: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]],
) -> ir.Value:
    """Another arrangement of an initializer, computed when its bytes are asked for."""
    tensor = source.const_value
    assert tensor is not None

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(view(tensor.numpy())), dtype=tensor.dtype, name=name)

    return register(graph, name, ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(shape), name=name))


def register(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Make a tensor an initializer."""
    value = ir.Value(name=name, shape=ir.Shape(sizes(tensor)), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Readers of a node's first output read `value`, and the node goes."""
    old = node.outputs[0]
    ir.convenience.replace_all_uses_with(old, value)
    for i, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[i] = value
    graph.remove(node, safe=True)


def maker(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in op_types else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, if there is exactly one and the value does not leave the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def shape_of(value: ir.Value | None) -> list[int] | None:
    """A value's shape where all of it is known."""
    if value is None or value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return [int(size) for size in value.shape]  # type: ignore[arg-type]  # just checked


def is_constant(value: ir.Value | None) -> bool:
    """An initializer, as against what a node computes."""
    return value is not None and value.const_value is not None and value.producer() is None
