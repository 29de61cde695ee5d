"""The editor's values have types and shapes, and a value's only user is found or denied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from sprint_export.export.to_onnx.graph_editor import (
    GraphEditor,
    extent,
    is_constant,
    literal_shape,
    maker,
    number_of,
    only_user,
    permutation_of,
    register,
    replace,
    result_shape,
    shape_of,
)


def make_graph() -> ir.Graph:
    """y = relu(x), float32 [2, 6]."""
    x = ir.Value(name="x", shape=ir.Shape([2, 6]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Relu", [x])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", x.shape, x.type
    return ir.Graph([x], [node.outputs[0]], nodes=[node], opset_imports={"": 22})


def test_new_values_are_typed_named_and_in_front() -> None:
    graph = make_graph()
    relu = graph[0]
    editor = GraphEditor(graph, relu, "y")
    parts = editor.split(editor.transpose(editor.reshape(graph.inputs[0], (3, 4)), (1, 0)), (1, 2))
    assert [node.op_type for node in graph] == ["Reshape", "Transpose", "Split", "Relu"]
    assert [shape_of(part) for part in parts] == [(4, 1), (4, 2)]
    assert all(part.dtype == ir.DataType.FLOAT for part in parts)
    names = [output.name for node in graph for output in node.outputs]
    assert len(names) == len(set(names))
    assert all(str(name).startswith("y") for name in names)
    assert permutation_of(graph[1]) == (1, 0)


def test_constants_are_initializers_of_the_wanted_type() -> None:
    graph = make_graph()
    editor = GraphEditor(graph, graph[0], "y")
    one = editor.filled(1.0, ir.DataType.BFLOAT16, (2, 3))
    assert is_constant(one)
    assert not is_constant(graph.inputs[0])
    assert one.const_value is not None
    assert one.const_value.dtype == ir.DataType.BFLOAT16
    np.testing.assert_array_equal(one.const_value.numpy().astype(np.float32), np.ones((2, 3), np.float32))


def test_makers_and_users_are_found_by_operator() -> None:
    graph = make_graph()
    relu, y = graph[0], graph.outputs[0]
    assert maker(y, "Relu", "Add") is relu
    assert maker(y, "Add") is maker(graph.inputs[0], "Relu") is maker(None, "Relu") is None
    assert only_user(graph.inputs[0], "Relu") is relu
    assert only_user(graph.inputs[0], "Add") is only_user(y, "Relu") is None, "what the graph returns has a user outside"


def test_any_user_will_do_where_none_is_named() -> None:
    graph = make_graph()
    assert only_user(graph.inputs[0]) is graph[0]
    assert only_user(graph.outputs[0]) is None


def test_a_constant_is_made_once_and_a_node_is_replaced() -> None:
    graph = make_graph()
    relu = graph[0]
    op = GraphEditor(graph, relu, "y")
    two = op.shared("two", np.array(2, np.float32))
    assert op.shared("two", np.array(3, np.float32)) is two
    doubled = op.Mul(graph.inputs[0], two, _name="doubled")
    replace(graph, relu, doubled)
    assert [node.op_type for node in graph] == ["Mul"]
    assert graph.outputs[0] is doubled
    assert (doubled.name, shape_of(doubled), doubled.dtype) == ("y.doubled", (2, 6), ir.DataType.FLOAT)


def test_a_view_of_a_weight_is_computed_when_its_bytes_are_asked_for() -> None:
    graph = make_graph()
    asked: list[str] = []

    def load() -> ir.TensorProtocol:
        asked.append("weight")
        return ir.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))

    weight = register(graph, "weight", ir.LazyTensor(load, dtype=ir.DataType.FLOAT, shape=ir.Shape([2, 3])))
    turned = GraphEditor(graph, graph[0], "y").view("turned", weight, [3, 2], lambda array: array.T)
    assert not asked
    assert turned.const_value is not None
    np.testing.assert_array_equal(turned.const_value.numpy(), [[0, 3], [1, 4], [2, 5]])
    assert asked


def test_a_free_axis_is_a_name_and_no_number() -> None:
    value = ir.Value(name="x", shape=ir.Shape(["batch", 3]))
    assert shape_of(value) == (ir.SymbolicDim("batch"), 3)
    assert shape_of(None) == ()
    assert extent(value, 1) == 3
    with pytest.raises(AssertionError, match=r"x: axis 0 is free \(batch\)"):
        extent(value, 0)


@pytest.mark.parametrize(
    ("operator", "shapes", "wanted"),
    [
        ("MatMul", [(4, 2, 3), (4, 3, 5)], (4, 2, 5)),
        ("MatMul", [("n", 2, 3), (3, 5)], ("n", 2, 5)),
        ("Add", [(4, "n", 3), (1, 1, 3)], (4, "n", 3)),
        ("Mul", [(3,), (4, "n", 3)], (4, "n", 3)),
        ("Add", [(4, 3), None], None),
        ("Softmax", [(4, "n")], (4, "n")),
        ("DequantizeLinear", [(4, 3), ()], (4, 3)),
    ],
)
def test_a_result_has_the_shape_that_the_operator_gives_it(
    operator: str, shapes: list[tuple[int | str, ...] | None], wanted: tuple[int | str, ...] | None
) -> None:
    inputs = [ir.Value(name="x", shape=None if shape is None else ir.Shape(shape)) for shape in shapes]
    found = result_shape(operator, inputs)
    assert found == (None if wanted is None else tuple(ir.Shape(wanted)))


def test_one_number_is_read_and_a_weight_is_not() -> None:
    graph = make_graph()
    weight = register(
        graph, "weight", ir.LazyTensor(lambda: pytest.fail("it was read"), dtype=ir.DataType.FLOAT, shape=ir.Shape([9]))
    )
    half = register(graph, "half", ir.Tensor(np.array([0.5], np.float32)))
    assert number_of(half) == 0.5
    assert number_of(weight) is number_of(graph.inputs[0]) is number_of(None) is None


def test_one_free_axis_is_left_to_the_reshape() -> None:
    height, width = ir.SymbolicDim("height"), ir.SymbolicDim("width")
    assert literal_shape((1, height * width, 3)) == [1, -1, 3]
    assert literal_shape((1, 2)) == [1, 2]
    with pytest.raises(AssertionError, match=r"a Reshape to \['height', 'width'\] needs more than constants"):
        literal_shape((height, width))


@pytest.mark.parametrize(("size", "operators"), [(6, ["Relu"]), ("n", ["Shape", "Expand", "Relu"])])
def test_a_row_is_a_constant_or_as_long_as_an_axis_turns_out_to_be(size: int | str, operators: list[str]) -> None:
    graph = make_graph()
    graph.inputs[0].shape = ir.Shape([2, size])
    row = GraphEditor(graph, graph[0], "y").row(1.0, graph.inputs[0], axis=1)
    assert [node.op_type for node in graph] == operators
    assert (shape_of(row), row.dtype) == (ir.Shape([1, size]).dims, ir.DataType.FLOAT)
