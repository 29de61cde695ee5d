"""Weight scales behind the convolution: the same numbers, one scale in the weight, and a builder that then writes no float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sprint_export.devices import find_device
from sprint_export.export.to_onnx.shadow import write_shadow
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Component
from sprint_export.runtimes.trt.kernels import parse_kernels
from sprint_export.runtimes.trt.target import TARGET
from tests.export.to_onnx.graphs import attributes, initializers, producers, quantize_small, run_onnx, small_feeds, value_of
from tests.made_student import snr_db

REWRITES = ("scale_after_conv",)


def export(component: Component, dtype: str, folder: Path, rewrites: tuple[str, ...]) -> Path:
    path = folder / "-".join(("graph", *rewrites)) / "model.onnx"
    write_graph(make_graph(component, dtype, rewrites), path)
    return path


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_function_stays(precision: str, tmp_path: Path) -> None:
    component = quantize_small(precision, "fp32", 0)
    before, after = (run_onnx(export(component, "fp32", tmp_path, r), small_feeds(), fuse=False) for r in ((), REWRITES))
    same = snr_db(after, before)  # float32 rounds a sum before or behind a scale; no value moves by a quantization step
    assert same >= 110, f"{same:.1f} dB between the graph before and after, at least 110"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_weight_has_one_scale_and_its_result_is_scaled_and_biased(precision: str, tmp_path: Path) -> None:
    component = quantize_small(precision, "bf16", 0)
    before, after = (onnx.load(str(export(component, "bf16", tmp_path, r))) for r in ((), REWRITES))
    stored, made_by, old = initializers(after), producers(after), initializers(before)
    readers = {name: node for node in after.graph.node for name in node.input}
    for layer in ("conv", "point"):
        weight = made_by[next(n for n, node in made_by.items() if node.input[0] == f"{layer}.weight.{precision}")]
        assert "axis" not in attributes(weight)
        assert value_of(stored[weight.input[1]]).astype(np.float32).item() == 1 / 128
        assert value_of(stored[weight.input[2]]).astype(np.float32).item() == 0
        scale = value_of(old[f"{layer}.weight.scale"]).astype(np.float32)
        conv = readers[weight.output[0]]
        multiply = readers[conv.output[0]]
        add = readers[multiply.output[0]]
        assert (len(conv.input), multiply.op_type, add.op_type) == (2, "Mul", "Add")
        np.testing.assert_array_equal(value_of(stored[multiply.input[1]]).astype(np.float32), 128 * scale.reshape(1, -1, 1, 1))
        assert list(stored[add.input[1]].dims) == [1, len(scale), 1, 1]
        assert f"{layer}.weight.scale" not in stored, "what nothing reads is gone"
    assert sum(node.op_type == "Conv" for node in after.graph.node) == sum(node.op_type == "Conv" for node in before.graph.node)


def test_a_weight_of_one_scale_is_left_alone(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "bf16", None)
    before, after = (onnx.load(str(export(component, "bf16", tmp_path, r))) for r in ((), REWRITES))
    assert before == after


def test_the_shadow_computes_the_same(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "bf16", 0)
    shadows = [write_shadow(export(component, "bf16", tmp_path, r)) for r in ((), REWRITES)]
    before, after = (run_onnx(path, small_feeds(), fuse=False) for path in shadows if path is not None)
    same = snr_db(after, before)
    assert same >= 110, f"{same:.1f} dB between the shadow before and after, at least 110"


def test_no_convolution_writes_float32(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    component = quantize_small("w8a8", "bf16", 0)
    written = []
    for rewrites in ((), REWRITES):
        graph = export(component, "bf16", tmp_path, rewrites)
        table = TARGET.build(graph, find_device("rtx-4090"), "tensorrt-rtx", lambda message: None)["kernels"]
        kernels = [k for k in parse_kernels(table.read_text()) if k.flop and k.dtype == "int8" and "conv" in k.name]
        assert len(kernels) == 2, "the dense and the 1x1 convolution"
        written.append({tensor.dtype for kernel in kernels for tensor in kernel.outputs})
    assert written == [{"Float"}, {"BFloat16"}]
