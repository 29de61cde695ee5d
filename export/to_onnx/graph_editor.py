"""Small tools for a rule: put typed nodes before another, make constants, follow a value back and forth, swap one for another.

torch's exporter leaves some values without a type or shape; every value made here has both where they are known, since the shadow
(shadow.py) and later rules read them. Weights stay lazy: `GraphEditor.view` rearranges one when its bytes are wanted.

Where a graph has free axes, their sizes are names or arithmetic on names (`height`, `height*width`), and are calculated with as
numbers are. What must be a number (channels, heads, an axis of a weight) is asked for by `extent`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sprint_export.export.to_onnx.tensors import sizes

Size: TypeAlias = int | ir.SymbolicDim  # of an axis: a number or, where it is free, a name
Array: TypeAlias = npt.NDArray[Any]
BROADCASTING = ("Add", "Sub", "Mul", "Div", "MatMul")


class GraphEditor:
    """Inserts nodes in front of one node; their values are named after a prefix.

    An operator is a method, as in a pattern of onnxscript: `op.MatMul(x, w)`, `op.Softmax(x, axis=-1)` (see `add`).

    Args:
        graph: edited in place.
        before: the new nodes run before this one.
        prefix: unique in the graph, e.g. the name of the value that is replaced.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node, prefix: str) -> None:
        self.graph, self.before, self.prefix, self._count = graph, before, prefix, 0

    def __getattr__(self, operator: str) -> Callable[..., ir.Value]:
        if not operator[0].isupper():  # else copying or printing an editor would ask for operators
            raise AttributeError(operator)
        return lambda *inputs, **options: self.add(operator, inputs, **options)

    def add(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        _shape: Sequence[Size] | None = None,
        _dtype: ir.DataType | None = None,
        _name: str | None = None,
        _like: ir.Value | None = None,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """One node with one output.

        Unless given, the output's shape is what the operator makes of its inputs' (products and elementwise operators; any
        other keeps its first input's), its type the first input's, its name the operator and a number. `_like` is a value whose
        shape it has, known or not.
        """
        present = [value for value in inputs if value is not None]
        node = ir.node(operator, present, attributes=attributes)
        node.name = self._next_name(operator) if _name is None else f"{self.prefix}.{_name}"
        self.graph.insert_before(self.before, node)
        if _shape is None and (_like is None or _like.shape is not None):
            _shape = result_shape(operator, present) if _like is None else shape_of(_like)
        return declare(node.outputs[0], node.name, _shape, _dtype or present[0].dtype)

    def split(self, value: ir.Value, widths: Sequence[int], axis: int = -1) -> list[ir.Value]:
        """Cut an axis into pieces of these widths."""
        node = ir.node("Split", [value, self.ints(widths)], attributes={"axis": axis}, num_outputs=len(widths))
        node.name = self._next_name("Split")
        for i, (output, width) in enumerate(zip(node.outputs, widths, strict=True)):
            shape = list(shape_of(value))
            shape[axis] = width
            declare(output, f"{node.name}.{i}", shape, value.dtype)
        self.graph.insert_before(self.before, node)
        return list(node.outputs)

    def each_row(self, compute: Callable[..., ir.Value], *values: ir.Value) -> ir.Value:
        """`compute(*values)` for each index of the first axis by itself, one behind the other; a value with one serves all."""
        count = max(extent(value, 0) for value in values)
        if count == 1:
            return compute(*values)
        parts = [[value] * count if extent(value, 0) == 1 else self.split(value, [1] * count, axis=0) for value in values]
        rows = [compute(*row) for row in zip(*parts, strict=True)]
        return self.add("Concat", rows, (count, *shape_of(rows[0])[1:]), axis=0)

    def reshape(self, value: ir.Value, shape: Sequence[Size]) -> ir.Value:
        """The value in another shape of as many elements; at most one axis may be free."""
        return self.add("Reshape", [value, self.ints(literal_shape(shape))], shape)

    def transpose(self, value: ir.Value, axes: Sequence[int], _name: str | None = None) -> ir.Value:
        """The value with its axes in this order."""
        turned = None if value.shape is None else [value.shape[axis] for axis in axes]
        return self.add("Transpose", [value], turned, _name=_name, perm=list(axes))

    def dequantize_transposed(self, matrix: ir.Value, node: ir.Node, _name: str | None = None) -> ir.Value:
        """W^T [in, out] restored as a DequantizeLinear restores the weight [out, in, 1, 1] of a 1x1 convolution."""
        scale, *rest = (value for value in node.inputs[1:] if value is not None)
        axis: dict[str, Any] = {"axis": 1} if shape_of(scale) else {}
        if (block := node.attributes.get_int("block_size", 0)) > 0:
            count, width = extent(scale, 1), extent(scale, 0)
            scale = self.view(f"{scale.name}.transposed", scale, (count, width), lambda a: a.reshape(width, count).T)
            axis = {"axis": 0, "block_size": block}
        return self.add("DequantizeLinear", [matrix, scale, *rest], _dtype=scale.dtype, _name=_name, **axis)

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A constant vector of int64."""
        return self.constant(ir.Tensor(np.array(values, np.int64)))

    def filled(self, number: float | None, dtype: ir.DataType | None, shape: Sequence[int] = ()) -> ir.Value:
        """A constant that holds one number everywhere."""
        assert number is not None and dtype is not None
        return self.constant(ir.Tensor(np.full(shape, number, dtype.numpy()), dtype=dtype))

    def constant(self, tensor: ir.TensorProtocol, name: str | None = None) -> ir.Value:
        """A tensor, lazy or not, as an initializer."""
        return register(self.graph, name or self._next_name("constant"), tensor)

    def shared(self, name: str, array: Array) -> ir.Value:
        """A small constant under a name of the graph; one that is there already is used again."""
        return self.graph.initializers.get(name) or register(self.graph, name, ir.Tensor(array))

    def view(self, name: str, source: ir.Value, shape: Sequence[Size], view: Callable[[Array], Array]) -> ir.Value:
        """Another arrangement of an initializer, computed when its bytes are asked for; one of that name is used again."""
        return self.graph.initializers.get(name) or register(self.graph, name, view_tensor(source.const_value, shape, view))

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


def result_shape(operator: str, inputs: Sequence[ir.Value]) -> Sequence[Size] | None:
    """The shape a product or an elementwise operator gives its output; None where an input's is not known."""
    shapes = [tuple(value.shape) for value in (inputs[0], inputs[-1]) if value.shape is not None]
    if operator not in BROADCASTING:
        return shapes[0] if inputs[0].shape is not None else None
    if len(shapes) < 2:
        return None
    first, second = shapes
    if operator == "MatMul":
        return (*_broadcast(first[:-2], second[:-2]), first[-2], second[-1])
    return _broadcast(first, second)


def _broadcast(first: Sequence[Size], second: Sequence[Size]) -> tuple[Size, ...]:
    pairs = list(zip_longest(reversed(first), reversed(second), fillvalue=1))
    return tuple(b if a == 1 else a for a, b in reversed(pairs))


def view_tensor(tensor: ir.TensorProtocol | None, shape: Sequence[Size], view: Callable[[Array], Array]) -> ir.LazyTensor:
    """A tensor's values in another arrangement, computed when its bytes are asked for."""
    assert tensor is not None

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(view(tensor.numpy())), dtype=tensor.dtype)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(shape))


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


def bias_of(value: ir.Value) -> ir.Value | None:
    """The bias of the convolution that makes a value."""
    node = value.producer()
    return None if node is None or len(node.inputs) < 3 else node.inputs[2]


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer, as against what a node computes."""
    return value is not None and value.const_value is not None and value.producer() is None


def number_of(value: ir.Value | None) -> float | None:
    """A constant's only number; None for anything else. A large one is not read."""
    tensor = value.const_value if value is not None and is_constant(value) else None
    return None if tensor is None or tensor.size != 1 else float(np.asarray(tensor.numpy()).item())
