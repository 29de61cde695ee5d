"""What an ONNX graph's results hold at once, counted by hand."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from sprint_export.export.graph_memory import count_live


def test_results_are_held_until_their_last_reader(tmp_path: Path) -> None:
    """[4, 8] float32 has 128 bytes, [4, 16] 256; weights and what is made of them alone count as nothing, a view shares."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["a"]),  # x and a: 384
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),  # a, which b is, and c: 512
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT16),  # c and y: 384
    ]
    weights = [
        helper.make_tensor("w", TensorProto.INT8, [8, 16], [0] * 128),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0]),
        helper.make_tensor("shape", TensorProto.INT64, [2], [4, 16]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [4, 16])],
        weights,
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 16]) for name in "abc"],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert count_live(tmp_path / "model.onnx") == 512
