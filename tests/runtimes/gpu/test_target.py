"""Target gpu: the form is signed, without zero points, in half precision, and TensorRT's strongly typed parser reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.export.to_onnx.qdq import SMALLEST_HALF
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Component
from sprint_export.registry import load_target
from sprint_export.runtimes.gpu.target import TARGET
from sprint_export.weights import constant
from tests.export.to_onnx.graphs import initializers, producers, quantize_small, run_onnx, small_feeds, value_of
from tests.made_student import relative_error

STORED = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


def write(component: Component, folder: Path, dtype: str = "fp16") -> onnx.ModelProto:
    """With the target's rules, but those that this small network has nothing for."""
    write_graph(make_graph(component, dtype, TARGET.rewrites), folder / "model.onnx")
    return onnx.load(str(folder / "model.onnx"))


@pytest.mark.parametrize(
    ("precision", "device", "reason"),
    [
        ("int8", "rtx-4090", None),
        ("int8", "rtx-2080-ti", None),
        ("fp8", "rtx-5090", None),
        ("fp8", "rtx-3090", "gpu-fp8 needs compute capability 8.9 or newer; rtx-3090 has 8.6; use gpu-int8"),
        ("int8", "cpu", "gpu-int8 is for NVIDIA's GPUs, and cpu is none; use onnx-int8, or onnx-fp16 on any GPU"),
        ("int4", "rtx-4090", "gpu has no precision 'int4'; choose from: int8, fp8"),
    ],
)
def test_refusals_name_what_is_needed_and_what_can(precision: str, device: str, reason: str | None) -> None:
    assert TARGET.refuses(precision, find_device(device)) == reason


def test_every_provider_may_run_it() -> None:
    providers = ("cpu", "cuda", "tensorrt", "tensorrt-rtx", "directml", "openvino")
    assert [TARGET.refuse_provider(precision, each) for precision in TARGET.precisions for each in providers] == [None] * 12


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_pairs_are_signed_with_zero_points_of_zero_and_half_precision_scales(precision: str, tmp_path: Path) -> None:
    model = write(quantize_small(precision, "fp16", 0, target="gpu"), tmp_path)
    stored, made = initializers(model), producers(model)
    rounded = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    restored = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert len(rounded) == 4 and len(restored) == 4 + 4, "left and right are one product; four weights"
    for node in (*rounded, *restored):
        scale, zero = (stored[name] for name in node.input[1:3])
        assert scale.data_type == TensorProto.FLOAT16 and (value_of(scale) > 0).all(), node.name
        assert zero.data_type == STORED[precision] and not value_of(zero).astype(np.float32).any(), node.name
        is_weight = node.input[0] in stored
        is_convolution = is_weight and len(stored[node.input[0]].dims) == 4  # its scales per channel stand behind it
        assert value_of(scale).ndim == int(is_weight and not is_convolution), node.name
    assert not {"MatMulInteger", "QLinearConv", "ConvInteger"} & {node.op_type for node in model.graph.node}
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}
    assert made["image"].op_type == "Cast", "half precision inside, float32 at the borders"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_it_computes_what_the_float32_form_does(precision: str, tmp_path: Path) -> None:
    component = quantize_small(precision, "fp16", 0, target="gpu")
    found, wanted = tmp_path / "fp16", tmp_path / "fp32"
    write(component, found)
    layers = {name: replace(layer, scale_dtype="fp32") for name, layer in component.layers.items()}
    write(replace(component, layers=layers), wanted, "fp32")
    feeds = small_feeds()
    error = relative_error(run_onnx(found / "model.onnx", feeds, fuse=False), run_onnx(wanted / "model.onnx", feeds, fuse=False))
    print(f"half precision against float32 around the same rounding: {error:.1e}")
    assert error < 0.05, "a value that half precision moves across a rounding step is a step of 8 bits off"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_tensorrts_parser_reads_it_strongly_typed(precision: str, tmp_path: Path) -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx")
    from sprint_export.runtimes.trt.library import open_log

    write(quantize_small(precision, "fp16", 0, target="gpu"), tmp_path)
    log = open_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    done = parser.parse_from_file(str(tmp_path / "model.onnx"))
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert done and not errors, errors
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    halves = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION and layer.get_output(0).dtype == trt.float16]
    assert halves, "a convolution between Q/DQ computes in half precision"


def scale_weight(component: Component, layer: str, factor: float, rows: slice) -> Component:
    """With rows of one weight multiplied."""
    name = f"{layer}.weight"
    value = component.weights[name].load().clone()
    value[rows] *= factor
    return replace(component, weights={**component.weights, name: constant(value)})


def test_no_scale_becomes_zero_in_half_precision(tmp_path: Path) -> None:
    """TensorRT's parser refuses a scale that is not positive."""
    component = scale_weight(quantize_small("int8", "fp16", 0, target="gpu"), "out", 1e-7, slice(1))
    scale = value_of(initializers(write(component, tmp_path))["out.weight.transposed.scale"])
    assert scale[0] == SMALLEST_HALF and (scale[1:] > 6e-5).all()


@pytest.mark.parametrize(("precision", "factor", "said"), [("int8", 1e-2, "from 6.1e-05 on"), ("fp8", 1e-3, "from 7.63e-06 on")])
def test_a_layer_whose_scales_have_no_digits_left_is_refused(precision: str, factor: float, said: str, tmp_path: Path) -> None:
    component = scale_weight(quantize_small(precision, "fp16", 0, target="gpu"), "out", factor, slice(None))
    with pytest.raises(InputError, match=rf"layer 'out': its largest weight scale is .*, and half precision has .* {said}"):
        write(component, tmp_path)


def test_rules_are_those_of_the_engines_target() -> None:
    assert TARGET.rewrites == load_target("trt").rewrites, "what TensorRT fuses depends on them"
