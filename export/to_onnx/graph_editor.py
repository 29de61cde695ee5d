"""Small tools for a rewrite: put typed nodes before another, make constants, follow a value back and forth, swap one for another.

torch's exporter leaves some values without a type or shape; every value made here has both where they are known, since the shadow
(shadow.py) and later rewrites read them. Weights stay lazy: `view_initializer` rearranges one when its bytes are wanted.

Where a graph has free axes, their sizes are names or arithmetic on names (`height`, `height*width`), and are calculated with as
numbers are. What must be a number (channels, heads, an axis of a weight) is asked for by `extent`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sprint_export.export.to_onnx.tensors import sizes

Size: TypeAlias = int | ir.SymbolicDim  # of an axis: a number or, where it is free, a name


class GraphEditor:
    """Inserts nodes in front of one node; their values are named after a prefix.

    Args:
        graph: edited in place.
        before: the new nodes run before this one.
        prefix: unique in the graph, e.g. the name of the value that is replaced.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node, prefix: str) -> None:
        self.graph, self.before, self.prefix, self._count = graph, before, prefix, 0

    def add(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        shape: Sequence[Size],
        dtype: ir.DataType | None = None,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """One node with one output of this shape; its type is the first input's unless given."""
        return add_node(self.graph, self.before, operator, inputs, self._next_name(operator), shape, dtype, **attributes)

    def split(self, value: ir.Value, widths: Sequence[int]) -> list[ir.Value]:
        """Cut the last axis into pieces of these widths."""
        node = ir.node("Split", [value, self.ints(widths)], attributes={"axis": -1}, num_outputs=len(widths))
        node.name = self._next_name("Split")
        for i, (output, width) in enumerate(zip(node.outputs, widths, strict=True)):
            declare(output, f"{node.name}.{i}", (*shape_of(value)[:-1], width), value.dtype)
        self.graph.insert_before(self.before, node)
        return list(node.outputs)

    def reshape(self, value: ir.Value, shape: Sequence[Size]) -> ir.Value:
        """The value in another shape of as many elements; at most one axis may be free."""
        return self.add("Reshape", [value, self.ints(literal_shape(shape))], shape)

    def transpose(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """The value with its axes in this order."""
        return self.add("Transpose", [value], [shape_of(value)[axis] for axis in axes], perm=list(axes))

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A constant vector of int64."""
        return self.constant(ir.Tensor(np.array(values, np.int64)))

    def filled(self, number: float, dtype: ir.DataType | None, shape: Sequence[int] = ()) -> ir.Value:
        """A constant that holds one number everywhere."""
        assert dtype is not None
        return self.constant(ir.Tensor(np.full(shape, number, dtype.numpy()), dtype=dtype))

    def constant(self, tensor: ir.TensorProtocol, name: str | None = None) -> ir.Value:
        """A tensor, lazy or not, as an initializer."""
        return register(self.graph, name or self._next_name("constant"), tensor)

    def row(self, number: float, value: ir.Value, axis: int) -> ir.Value:
        """One number [1, N] of a value's type, N the size of its axis: a constant, or made at run time where that is free."""
        size = shape_of(value)[axis]
        if isinstance(size, int):
            return self.filled(number, value.dtype, (1, size))
        length = self.add("Shape", [value], (1,), ir.DataType.INT64, start=axis, end=axis + 1)
        return self.add("Expand", [self.filled(number, value.dtype, (1, 1)), length], (1, size))

    def _next_name(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}.{kind}.{self._count}"


def add_node(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    shape: Sequence[Size] | None,
    dtype: ir.DataType | None = None,
    **attributes: int | Sequence[int],
) -> ir.Value:
    """Insert a node with one output in front of another; returns the output, of the first input's type unless told."""
    node = ir.node(op_type, list(inputs), attributes=attributes)
    node.name = name
    graph.insert_before(before, node)
    return declare(node.outputs[0], name, shape, dtype or inputs[0].dtype)


def declare(value: ir.Value, name: str, shape: Sequence[Size] | None, dtype: ir.DataType | None) -> ir.Value:
    """Give a new value its name, and its shape and type where they are known."""
    value.name, value.shape = name, None if shape is None else ir.Shape(list(shape))
    value.type = None if dtype is None else ir.TensorType(dtype)
    return value


def register(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Make a tensor, lazy or not, an initializer."""
    value = ir.Value(name=name, shape=ir.Shape(sizes(tensor)), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
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
    shape: Sequence[Size],
    view: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]],
) -> ir.Value:
    """Another arrangement of an initializer, computed when its bytes are asked for."""
    tensor = source.const_value
    assert tensor is not None

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(view(tensor.numpy())), dtype=tensor.dtype, name=name)

    return register(graph, name, ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(shape), name=name))


def replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Readers of a node's first output read `value`, and the node goes."""
    ir.convenience.replace_all_uses_with(node.outputs[0], value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def shape_of(value: ir.Value | None) -> tuple[Size, ...]:
    """A value's shape, free axes as names; empty where the exporter left it out."""
    return () if value is None or value.shape is None else tuple(value.shape)


def extent(value: ir.Value | None, axis: int) -> int:
    """The size of an axis that is never free: channels, heads, an axis of a weight."""
    size = shape_of(value)[axis]
    assert isinstance(size, int), f"{None if value is None else value.name}: axis {axis} is free ({size})"
    return size


def known_shape(value: ir.Value | None) -> list[Size] | None:
    """A value's shape, free axes as names, or None where the exporter left it out."""
    return None if value is None or value.shape is None else list(value.shape)


def fixed_shape(value: ir.Value | None) -> list[int] | None:
    """A value's shape, or None where the exporter left it out or an axis is free."""
    shape = known_shape(value)
    numbers = [size for size in shape or () if isinstance(size, int)]
    return None if shape is None or len(numbers) < len(shape) else numbers


def literal_shape(shape: Sequence[Size]) -> list[int]:
    """What a Reshape to this shape takes: its numbers, and -1 for the one axis that may be free."""
    numbers = [size if isinstance(size, int) else -1 for size in shape]
    assert numbers.count(-1) <= 1, f"a Reshape to {list(map(str, shape))} needs more than constants"
    return numbers


def maker(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these operators."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in operators else None


def only_user(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The one node that reads a value, if it is one of these operators (none named: any).

    None where several nodes read it, one reads it twice, or the graph returns it.
    """
    users = [] if value is None else [use.node for use in value.uses()]
    if value is None or len(users) != 1 or value.is_graph_output():
        return None
    return users[0] if not operators or users[0].op_type in operators else None


def permutation_of(node: ir.Node) -> tuple[int, ...]:
    """A Transpose's order of axes."""
    return tuple(node.attributes["perm"].as_ints())


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer, as against what a node computes."""
    return value is not None and value.const_value is not None and value.producer() is None
