"""ONNX files counted: products, convolutions, Q and DQ, weights, views; by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sprint_export.errors import BundleError
from sprint_export.nouns.work import Work
from sprint_export.planning.graph import list_kernels
from sprint_export.planning.onnx_graph import read_graph

F, I8 = TensorProto.FLOAT, TensorProto.INT8


Weights = Mapping[str, tuple[int, list[int]]]  # type and shape by name


def count(tmp_path: Path, nodes: list[onnx.NodeProto], weights: Weights, **shapes: list[int]) -> list[Work]:
    """Kernels of a graph from x to y; `shapes` of x, y and what is between, all float32 but where the name ends in q."""
    values = [helper.make_tensor_value_info(name, I8 if name.endswith("q") else F, shape) for name, shape in shapes.items()]
    by_name = {value.name: value for value in values}
    initializers = [
        helper.make_tensor(name, kind, shape, bytes(_size(kind, shape)), raw=True) for name, (kind, shape) in weights.items()
    ]
    inner = [value for value in values if value.name not in ("x", "y")]
    graph = helper.make_graph(nodes, "made", [by_name["x"]], [by_name["y"]], initializers, value_info=inner)
    onnx.save(helper.make_model(graph), path := tmp_path / "model.onnx")
    return list(list_kernels(read_graph(path))[0])


def _size(kind: int, shape: list[int]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size * (1 if kind == I8 else 4)


def test_a_product_with_its_activation_is_one_kernel(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], name="product"), helper.make_node("Relu", ["a"], ["y"])]
    (work,) = count(tmp_path, nodes, {"w": (F, [16, 32])}, x=[8, 16], a=[8, 32], y=[8, 32])
    assert (work.name, work.flop, work.dtype) == ("product", 2 * 8 * 16 * 32, "fp32")
    assert work.bytes == 4 * (8 * 16 + 16 * 32 + 8 * 32)


def test_a_dense_convolution_is_a_product_and_a_depthwise_one_is_counted_by_bytes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="dense", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "d"], ["y"], name="depthwise", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
    ]
    works = count(
        tmp_path, nodes, {"w": (F, [8, 4, 3, 3]), "d": (F, [8, 1, 3, 3])}, x=[1, 4, 10, 10], a=[1, 8, 10, 10], y=[1, 8, 10, 10]
    )
    assert sum(work.flop for work in works) == 2 * 8 * 100 * 4 * 9


def test_products_of_restored_values_multiply_in_8_bits_and_read_them_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["aq"], name="round"),
        helper.make_node("DequantizeLinear", ["aq", "s", "z"], ["b"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="product"),
    ]
    weights = {"w": (I8, [16, 32]), "s": (F, []), "z": (I8, [])}
    works = count(tmp_path, nodes, weights, x=[8, 16], aq=[8, 16], b=[8, 16], v=[16, 32], y=[8, 32])
    rounding, product = works
    assert (product.flop, product.dtype) == (2 * 8 * 16 * 32, "int8")
    assert product.bytes == 8 * 16 + 16 * 32 + 4 * 8 * 32
    assert rounding.bytes == 4 * 8 * 16 + 8 * 16 + 4 + 1, "input, output, scale, zero point"


def test_what_only_renames_axes_costs_nothing_and_rows_of_a_table_are_all_that_is_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"], name="words"),
        helper.make_node("Reshape", ["a", "shape"], ["y"]),
    ]
    works = count(tmp_path, nodes, {"table": (F, [1000, 16]), "shape": (TensorProto.FLOAT, [2])}, x=[8], a=[8, 16], y=[1, 8, 16])
    assert [work.bytes for work in works] == [4 * (8 * 16 + 8 + 8 * 16)]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    count(tmp_path, nodes, {"w": (F, [16, 32])}, x=[8, 16], y=[8, 32])
    path = tmp_path / "model.onnx"
    for data in (path.read_bytes()[:40], b"\xff" * 100, path.read_bytes().replace(b"MatMul", b"Gather")[:-3]):
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"model\.onnx holds no graph that can be read .*; copy or export the bundle again"):
            read_graph(path)
