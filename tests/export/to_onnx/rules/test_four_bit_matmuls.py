"""Products with 4-bit weights in blocks are ONNX Runtime's own operator: the same weights, inputs that stay unrounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sprint_export.nouns.student import Component
from tests.export.to_onnx.graphs import (
    attributes,
    count_ops,
    export_component,
    initializers,
    quantize_small,
    run_onnx,
    small_component,
    small_feeds,
    value_of,
)
from tests.made_student import relative_error

TOLERANCE = {"fp32": 1e-6, "fp16": 2e-3}  # of the largest magnitude: float sums in another order; a step of half precision
LAYERS = ("point", "left", "right", "out")  # the convolution of 3x3 is no product


def four_bits(dtype: str, group: int = 16) -> Component:
    """Its products in 4 bits; the 1x1 convolution is one after pointwise_matmuls."""
    component = quantize_small("w4a16", dtype, 0)
    return replace(component, layers={name: replace(component.layers[name], group=group) for name in LAYERS})


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_every_product_is_the_operator_and_gives_what_qdq_gave(dtype: str, tmp_path: Path) -> None:
    component = four_bits(dtype)
    before = export_component(component, dtype, tmp_path / "before", ["pointwise_matmuls"])
    after = export_component(component, dtype, tmp_path / "after", ["pointwise_matmuls", "four_bit_matmuls"])
    old, new = count_ops(before.model), count_ops(after.model)
    assert (new["MatMulNBits"], new["MatMul"], new["DequantizeLinear"]) == (4, 0, 0)
    assert (old["MatMulNBits"], old["MatMul"], old["DequantizeLinear"]) == (0, 4, 4)
    onnx.checker.check_model(str(after.path), full_check=True)
    assert {"com.microsoft"} == {each.domain for each in after.model.opset_import} - {""}
    for node in after.model.graph.node:
        if node.op_type == "MatMulNBits":
            assert attributes(node)["accuracy_level"] == 1, "else x is rounded to 8 bits"
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    error = relative_error(found, wanted)
    assert error < TOLERANCE[dtype], f"{error:.1e} of {TOLERANCE[dtype]:.0e}"


def test_values_and_scales_lie_as_the_operator_reads_them(tmp_path: Path) -> None:
    component = four_bits("fp32")
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["four_bit_matmuls"][:n]) for n in (0, 1))
    was, stored = initializers(before.model), initializers(after.model)
    name = "out.weight.transposed"
    codes = value_of(was[f"{name}.int4"]).astype(np.int8)  # [K, N]
    packed = value_of(stored[f"{name}.int4.packed"])
    assert packed.dtype == np.uint8 and packed.shape == (48, 64 // 16, 8)
    rows = packed.reshape(48, 32)
    np.testing.assert_array_equal(np.stack([rows & 15, rows >> 4], axis=-1).reshape(48, 64).astype(np.int8) - 8, codes.T)
    np.testing.assert_array_equal(value_of(stored[f"{name}.scale.rows"]).reshape(48, 4), value_of(was[f"{name}.scale"]).T)
    assert f"{name}.int4" not in stored, "the weight is stored once"
    assert stored[f"{name}.scale.rows"].data_type == TensorProto.FLOAT


@pytest.mark.parametrize("component", [small_component(), four_bits("fp32", group=8)], ids=["float", "blocks of 8"])
def test_others_are_left_alone(component: Component, tmp_path: Path) -> None:
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["four_bit_matmuls"][:n]) for n in (0, 1))
    assert before.model == after.model
