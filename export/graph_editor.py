"""Small tools for a rewrite: put typed nodes before another, follow a value back, know a constant.

torch's exporter leaves some values without a type or shape; every value made here has both, since the shadow (export/shadow.py)
and later rewrites read them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sprint_export.export.tensors import sizes


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
        shape: Sequence[int],
        dtype: ir.DataType | None = None,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """One node with one output of this shape; its type is the first input's unless given."""
        node = ir.node(operator, list(inputs), attributes=attributes)
        self._place(node)
        return self._declare(node.outputs[0], shape, dtype or inputs[0].dtype)

    def split(self, value: ir.Value, widths: Sequence[int]) -> list[ir.Value]:
        """Cut the last axis into pieces of these widths."""
        node = ir.node("Split", [value, self.ints(widths)], attributes={"axis": -1}, num_outputs=len(widths))
        self._place(node)
        rows = shape_of(value)[:-1]
        return [self._declare(output, (*rows, width), value.dtype) for output, width in zip(node.outputs, widths, strict=True)]

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """The value in another shape of as many elements."""
        return self.add("Reshape", [value, self.ints(shape)], shape)

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
        name = name or self._next_name("constant")
        value = ir.Value(name=name, shape=ir.Shape(sizes(tensor)), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _place(self, node: ir.Node) -> None:
        node.name = self._next_name(node.op_type)
        for i, output in enumerate(node.outputs):
            output.name = f"{node.name}.{i}"
        self.graph.insert_before(self.before, node)

    def _next_name(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}.{kind}.{self._count}"

    @staticmethod
    def _declare(value: ir.Value, shape: Sequence[int], dtype: ir.DataType | None) -> ir.Value:
        assert dtype is not None
        value.shape, value.type = ir.Shape(list(shape)), ir.TensorType(dtype)
        return value


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """A value's shape as plain ints; empty where the exporter left it out."""
    return () if value is None or value.shape is None else tuple(int(size) for size in value.shape.numpy())


def maker(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these operators."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in operators else None


def only_user(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The one node that reads a value, if it is one of these operators; None where several do, or the graph returns it."""
    users = [] if value is None else [use.node for use in value.uses()]
    if value is None or len(users) != 1 or value.is_graph_output():
        return None
    return users[0] if users[0].op_type in operators else None


def permutation_of(node: ir.Node) -> tuple[int, ...]:
    """A Transpose's order of axes."""
    return tuple(node.attributes["perm"].as_ints())


def is_constant(graph: ir.Graph, value: ir.Value | None) -> bool:
    """Whether a value is an initializer."""
    return value is not None and value.name in graph.initializers
