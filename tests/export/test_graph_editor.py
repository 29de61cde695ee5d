"""The editor's values have types and shapes, and a value's only user is found or denied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sprint_export.export.graph_editor import GraphEditor, is_constant, maker, only_user, permutation_of, shape_of


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
    assert is_constant(graph, one)
    assert not is_constant(graph, graph.inputs[0])
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
