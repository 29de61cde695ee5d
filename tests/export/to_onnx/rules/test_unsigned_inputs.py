"""Activations turn unsigned, weights do not, and no value changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.export.to_onnx.graphs import export_component, initializers, quantize_small, run_onnx, small_feeds, types_of, value_of


def test_the_same_values_in_the_other_type(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    before = export_component(component, "fp32", tmp_path / "before")
    after = export_component(component, "fp32", tmp_path / "after", ["unsigned_inputs"])
    model = after.model
    types, stored = types_of(model), initializers(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert types[node.output[0]] == TensorProto.UINT8
            assert value_of(stored[node.input[2]]).item() == 128
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            assert types[node.input[0]] == TensorProto.INT8, "weights stay signed"
            assert not value_of(stored[node.input[2]]).any()
    assert not [name for name in stored if name.endswith(".zero") and name.startswith("latents")], "old zero points are gone"
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    np.testing.assert_array_equal(found, wanted)


def test_fp8_is_left_alone(tmp_path: Path) -> None:
    component = quantize_small("fp8", "fp32", 0)
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["unsigned_inputs"][:n]) for n in (0, 1))
    assert before.model == after.model
