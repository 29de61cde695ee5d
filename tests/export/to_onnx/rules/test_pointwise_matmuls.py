"""1x1 convolutions become MatMuls with the same weights and scales; all other convolutions stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export.to_onnx.graphs import (
    attributes,
    count_ops,
    export_component,
    initializers,
    producers,
    quantize_small,
    run_onnx,
    small_component,
    small_feeds,
    value_of,
)

TOLERANCE = 1e-5  # of the largest magnitude: one float32 sum in another order


def test_the_int8_one_is_a_matmul(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    before = export_component(component, "fp32", tmp_path / "before")
    after = export_component(component, "fp32", tmp_path / "after", ["pointwise_matmuls"])
    old, new = count_ops(before.model), count_ops(after.model)
    assert (new["Conv"], new["MatMul"]) == (old["Conv"] - 1, old["MatMul"] + 1)
    stored, was = initializers(after.model), initializers(before.model)
    weight = value_of(stored["point.weight.int8.matmul"])
    np.testing.assert_array_equal(weight, value_of(was["point.weight.int8"])[:, :, 0, 0].T)
    assert "point.weight.int8" not in stored, "the weight is stored once"
    (restored,) = (node for node in after.model.graph.node if node.input[0] == "point.weight.int8.matmul")
    assert attributes(restored)["axis"] == 1
    assert restored.input[1] == "point.weight.scale"
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert deviation < TOLERANCE, f"{deviation:.1e} of {TOLERANCE:.0e}"


def test_one_scale_a_tensor_has_no_axis(tmp_path: Path) -> None:
    after = export_component(quantize_small("w8a8", "fp32", None), "fp32", tmp_path, ["pointwise_matmuls"])
    restored = producers(after.model)["point.weight.dq.matmul"]
    assert list(initializers(after.model)[restored.input[1]].dims) == []
    run_onnx(after.path, small_feeds(), fuse=False)


def test_4_bits_in_blocks_are_unpacked_where_they_are_multiplied(tmp_path: Path) -> None:
    """The same function, and ONNX Runtime's MatMulNBits in place of a Conv that restores its weight at every run."""
    component = quantize_small("w4a16", "fp32", 0)
    component = replace(component, layers={"point": replace(component.layers["point"], group=16)})
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["pointwise_matmuls"][:n]) for n in (0, 1))
    restored = producers(after.model)["point.weight.dq.matmul"]
    assert attributes(restored) == {"axis": 0, "block_size": 16}
    scale, old = (initializers(graph.model)[name] for graph, name in ((after, restored.input[1]), (before, "point.weight.scale")))
    np.testing.assert_array_equal(value_of(scale), value_of(old)[:, :, 0, 0].T)
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert deviation < TOLERANCE, f"{deviation:.1e} of {TOLERANCE:.0e}"


@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_others_are_left_alone(tmp_path: Path, precision: str) -> None:
    component = small_component() if precision == "fp32" else quantize_small("fp8", "fp32", 0)
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["pointwise_matmuls"][:n]) for n in (0, 1))
    assert before.model == after.model
