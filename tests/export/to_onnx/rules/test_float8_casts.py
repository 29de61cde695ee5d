"""FP8 activations are widened by Cast and Mul, bit for bit; weights keep their DequantizeLinear; INT8 is left alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from tests.export.to_onnx.graphs import export_component, initializers, quantize_small, run_onnx, small_feeds, types_of


def test_the_same_bits_without_a_dequantize_linear_on_an_activation(tmp_path: Path) -> None:
    component = quantize_small("fp8", "fp32", 0)
    before = export_component(component, "fp32", tmp_path / "before")
    after = export_component(component, "fp32", tmp_path / "after", ["float8_casts"])
    stored, types = initializers(after.model), types_of(after.model)
    read = [node.input[0] for node in after.model.graph.node if node.op_type == "DequantizeLinear"]
    assert read and set(read) <= set(stored), "a weight stays a byte a value until it is used"
    rounded = [node for node in after.model.graph.node if node.op_type == "QuantizeLinear"]
    assert rounded and {types[node.output[0]] for node in rounded} == {TensorProto.FLOAT8E4M3FN}
    counts = [Counter(node.op_type for node in graph.model.graph.node) for graph in (before, after)]
    assert counts[1]["Cast"] - counts[0]["Cast"] == len(rounded) == counts[0]["DequantizeLinear"] - counts[1]["DequantizeLinear"]
    found, wanted = (run_onnx(graph.path, small_feeds(), fuse=False) for graph in (after, before))
    np.testing.assert_array_equal(found, wanted)


def test_int8_is_left_alone(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["float8_casts"][:n]) for n in (0, 1))
    assert before.model == after.model


def test_no_integer_product_is_made_of_fp8(tmp_path: Path) -> None:
    """What ONNX Runtime before 1.32 did, and then refused; here as its pattern: two DequantizeLinear behind a product."""
    graph = export_component(quantize_small("fp8", "fp32", 0), "fp32", tmp_path / "graph", ["float8_casts"])
    made_by = {name: node for node in graph.model.graph.node for name in node.output}
    for node in graph.model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            sources = [made_by[name].op_type for name in node.input[:2] if name in made_by]
            assert sources.count("DequantizeLinear") < 2, node.name
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(graph.path), options, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False).graph.node}
    assert not operators & {"MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "QLinearConv"}
