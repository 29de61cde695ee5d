"""What of an engine's price is whose layer's, by hand, and which layers are computed with which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sprint_export.export.repeats import Repeat
from sprint_export.nouns.work import Work
from sprint_export.planning.cutting import count_runs
from sprint_export.planning.layer_kernels import LayerWork, find_owners, join_layers, label_kernels, share_price
from sprint_export.planning.prices import Prices, price_work

PRICES = Prices("made", "gpu", {"16-bit": 1.0, "fp8": 2.0}, 1.0, 2.0, "made")  # 1e9 FLOP/ms, 1e6 bytes/ms, 0.002 ms a kernel


def norm(reads: str, writes: dict[str, float], *nodes: str) -> Work:
    size = 4e5
    return Work("norm", 0.0, "", size + sum(writes.values()), nodes, {reads: size}, writes)


def product(name: str, reads: str, writes: str, flop: float = 1e9) -> Work:
    return Work(name, flop, "fp8", 1e5, (name,), {reads: 1e5}, {writes: 2e5})


def test_a_product_is_its_layer_s_and_values_that_move_are_theirs_who_make_or_read_them() -> None:
    kernels = (
        LayerWork(norm("x", {"x8": 1e5, "wide": 2e5})),  # its input rounded for the layer, and whole for somebody else
        LayerWork(product("first", "x8", "y"), ("a",)),
        LayerWork(norm("y", {"z": 3e5}, "first"), ("a",)),  # what the product could not take in
        LayerWork(norm("z", {"w8": 1e5})),
        LayerWork(product("second", "w8", "out"), ("b", "c")),
    )
    found = share_price(kernels, PRICES)
    product_ms, launch = 0.5, 0.002
    behind = (0.4 + 0.3 + launch) + (0.4 + launch)  # the product's values, and those of the kernel that reads them
    assert found["a"] == pytest.approx(0.1 + product_ms + launch + behind)
    assert found["b"] == found["c"] == pytest.approx((0.1 + product_ms + launch) / 2)
    price = price_work([each.work for each in kernels], PRICES).milliseconds
    nobody = 0.4 + 0.2 + launch  # before the first product
    assert sum(found.values()) == pytest.approx(price - nobody)
    assert share_price(kernels, PRICES, [3.0] * 5)["a"] == pytest.approx(3 * found["a"])


def test_nodes_are_their_layer_s_who_read_its_weight_through_what_restores_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = [
        numpy_helper.from_array(np.zeros((4, 4), np.int8), "blocks.0.to_q.weight.transposed.int8.merged"),
        numpy_helper.from_array(np.ones(4, np.float32), "blocks.0.to_q.weight.transposed.scale"),
        numpy_helper.from_array(np.ones((4, 4), np.float32), "blocks.0.norm.weights_of_another"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", [weights[0].name, weights[1].name], ["w"], name="restore", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply"),
        helper.make_node("MatMul", ["y", weights[2].name], ["z"], name="other"),
    ]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [shape], [out], weights)), str(path))
    layers = ["blocks.0.to_q", "blocks.0.to_k", "blocks.0.norm"]
    assert find_owners(path, layers) == {"restore": "blocks.0.to_q", "multiply": "blocks.0.to_q"}
    kernels = (Work("k", 1.0, "fp8", 1.0, ("norm", "multiply", "restore")), Work("n", 0.0, "", 1.0, ("other",)))
    assert [each.layers for each in label_kernels(kernels, path, layers)] == [("blocks.0.to_q",), ()]


def test_what_no_kernel_names_was_joined_to_its_kind_or_to_the_one_before() -> None:
    layers = [f"blocks.{i}.{name}" for i in range(3) for name in ("q", "k", "v", "text_k", "text_v", "out.0")]
    named = [*(f"blocks.{i}.{name}" for i in range(3) for name in ("q", "out.0")), "blocks.0.text_k"]
    kernels = [LayerWork(Work("k", 1.0, "fp8", 1.0), (name,)) for name in named]
    joined = join_layers(kernels, layers)
    assert joined["blocks.1.q"] == ("blocks.1.k", "blocks.1.v")
    assert joined["blocks.0.text_k"] == tuple(f"blocks.{i}.text_{name}" for i in range(3) for name in "kv")[1:]
    assert "blocks.0.out.0" not in joined
    assert join_layers([LayerWork(Work("k", 1.0, "fp8", 1.0), (name,)) for name in layers], layers) == {}


def test_a_kernel_of_a_block_between_runs_as_often_as_blocks_were_left_out() -> None:
    """Four blocks of ten: text keys of all in one product, two kernels a block, an entry and an exit."""
    kernels = [LayerWork(product("in", "noise", "x0"), ("entry",)), LayerWork(product("keys", "text", "k"), ("blocks.0.k",))]
    kernels.append(LayerWork(Work("split", 0.0, "", 1.0, (), {"k": 1.0}, {"ks": 1.0})))
    for i in range(4):
        kernels.append(LayerWork(product("q", f"x{i}", f"q{i}"), (f"blocks.{i}.q",)))
        attention = Work("attention", 0.0, "", 1.0, (), {f"q{i}": 1.0, "ks": 1.0}, {f"x{i + 1}": 1.0})
        kernels.append(LayerWork(attention))
    kernels.append(LayerWork(product("out", "x4", "picture"), ("exit",)))
    joined = {"blocks.0.k": ("blocks.1.k", "blocks.2.k", "blocks.3.k")}
    runs = count_runs(kernels, [Repeat("blocks", 1, 6)], joined)
    assert runs == [1, 2.5, 2.5, 1, 1, 4, 4, 4, 4, 1, 1, 1]
    assert sum(runs[3:11]) == 2 * 10
    assert count_runs(kernels, [], joined) == [1.0] * 12
