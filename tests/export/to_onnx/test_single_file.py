"""A graph with its weights inside is the graph with its weights beside, and is read back without a library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sprint_export.errors import BundleError
from sprint_export.export.to_onnx.single_file import Span, count_bytes, hash_graph, write_single_file

WEIGHTS: dict[str, Any] = {
    "large": np.random.default_rng(0).standard_normal((300, 700)).astype(np.float32),
    "half": np.random.default_rng(1).standard_normal((700, 40)).astype(np.float16),
    "small": np.arange(3, dtype=np.int64),
}


def save_beside(folder: Path, change: float = 0.0) -> Path:
    """x [2, 300] @ large @ float32(half), with the weights over 1 kB in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"]),
        helper.make_node("Cast", ["half"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    values = WEIGHTS | {"large": WEIGHTS["large"] + np.float32(change) * (np.arange(700) == 9)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 300])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 40])],
        [numpy_helper.from_array(value.astype(WEIGHTS[name].dtype), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, doc_string="a text")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=1024)
    return folder / "model.onnx"


def pack(path: Path, target: Path) -> Path:
    """The same with the weights inside."""
    model, spans = onnx.load(path, load_external_data=False), {}
    for tensor in model.graph.initializer:
        if said := {entry.key: entry.value for entry in tensor.external_data}:
            spans[tensor.name] = Span(path.parent / said["location"], int(said["offset"]), int(said["length"]))
    assert sorted(spans) == ["half", "large"]
    write_single_file(model, spans, target)
    assert 0 <= count_bytes(model, spans) - target.stat().st_size < 1000
    return target


def test_the_library_reads_the_same_weights_nodes_and_texts(tmp_path: Path) -> None:
    beside = save_beside(tmp_path / "beside")
    inside, expected = onnx.load(pack(beside, tmp_path / "one.onnx")), onnx.load(beside)
    onnx.checker.check_model(inside, full_check=True)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in inside.graph.initializer}
    assert list(inside.graph.node) == list(expected.graph.node)
    assert (inside.doc_string, inside.ir_version, inside.graph.name) == ("a text", 10, "g")
    assert sorted(found) == sorted(WEIGHTS)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(found[name], value)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in inside.graph.initializer)


def test_onnx_runtime_computes_the_same_bits(tmp_path: Path) -> None:
    beside = save_beside(tmp_path / "beside")
    x = np.random.default_rng(2).standard_normal((2, 300)).astype(np.float32)
    first, second = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (beside, pack(beside, tmp_path / "one.onnx"))
    )
    np.testing.assert_array_equal(first, second)


def test_a_hash_is_of_what_a_graph_computes_and_not_of_where_its_weights_lie(tmp_path: Path) -> None:
    beside = save_beside(tmp_path / "beside")
    assert hash_graph(beside) == hash_graph(pack(beside, tmp_path / "one.onnx"))
    assert hash_graph(beside) != hash_graph(save_beside(tmp_path / "other", change=1e-3))


def test_a_changed_bit_of_a_weight_inside_is_seen(tmp_path: Path) -> None:
    beside = save_beside(tmp_path / "beside")
    inside = pack(beside, tmp_path / "one.onnx")
    data = bytearray(inside.read_bytes())
    place = data.index(WEIGHTS["half"].tobytes()[:64])
    data[place + 100] ^= 1
    inside.write_bytes(data)
    assert hash_graph(inside) != hash_graph(beside)


def test_weights_that_end_too_early_are_refused_by_name(tmp_path: Path) -> None:
    beside = save_beside(tmp_path / "beside")
    data = beside.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"model\.onnx\.data ends 10 bytes before a weight does; copy or export"):
        pack(beside, tmp_path / "one.onnx")


@pytest.mark.parametrize("entry", [("length", ""), ("offset", "-1"), ("length", "x")])
def test_weights_that_do_not_say_where_they_are_are_refused_by_name(tmp_path: Path, entry: tuple[str, str]) -> None:
    beside = save_beside(tmp_path / "beside")
    model = onnx.load(beside, load_external_data=False)
    for said in model.graph.initializer[0].external_data:
        if said.key == entry[0]:
            said.value = entry[1]
    beside.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="the weight 'large' does not say where its bytes are; export the student again"):
        hash_graph(beside)


@pytest.mark.parametrize("content", [b"\x3a\xff\xff\xff\x7f", b"\xff" * 30, b"\x3a"], ids=["longer", "no number", "cut"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="no ONNX file"):
        hash_graph(tmp_path / "x.onnx")
