"""Quantized MatMuls become integer products that ONNX Runtime fuses with their bias; the values stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.export.to_onnx.graphs import (
    count_ops,
    export_component,
    initializers,
    quantize_small,
    run_onnx,
    small_component,
    small_feeds,
)

TOLERANCE = 1e-5  # of the largest magnitude: sums of floats against sums of integers


def test_every_quantized_matmul_is_one_of_integers(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    before = export_component(component, "fp32", tmp_path / "before", ["unsigned_inputs"])
    after = export_component(component, "fp32", tmp_path / "after", ["unsigned_inputs", "integer_matmuls"])
    old, new = count_ops(before.model), count_ops(after.model)
    assert new["MatMulInteger"] == old["MatMul"] == 3
    assert new["MatMul"] == 0
    stored = initializers(after.model)
    for node in after.model.graph.node:
        if node.op_type == "MatMulInteger":
            assert node.input[1] in stored
            assert stored[node.input[3]].dims == [stored[node.input[1]].dims[1]], "a zero point a column, as the scales"
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert deviation < TOLERANCE, f"{deviation:.1e} of {TOLERANCE:.0e}"


def test_float_and_fp8_are_left_alone(tmp_path: Path) -> None:
    for component in (small_component(), quantize_small("fp8", "fp32", 0)):
        before, after = (export_component(component, "fp32", tmp_path / str(n), ["integer_matmuls"][:n]) for n in (0, 1))
        assert before.model == after.model
