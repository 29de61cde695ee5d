"""Images between tokens channels last: 1x1 convolutions become products, transposes go, values stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.nouns.student import Student
from sprint_export.registry import load_target
from tests.export.to_onnx.graphs import quantize, small_component
from tests.export.to_onnx.rules.before_after import compare

TOLERANCE = 5e-6  # relative, float32; measured 0 to 3e-7
FLIPPED = 5e-3  # relative, quantized: a value at a rounding edge may go to the neighbouring step; measured 0 to 2e-3


def test_a_chain_with_a_node_that_has_no_twin_stays(tmp_path: Path) -> None:
    """The dense 3x3 convolution of `Small` has no form here."""
    found = compare(small_component(), ["depthwise_taps", "channels_last"], tmp_path)
    assert found.operators[1]["Conv"] == 2
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


@pytest.mark.parametrize("name", ["tiny_special", "made_special"])
def test_no_convolution_and_no_transpose_of_images_is_left(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    found = compare(student.components["transformer"], ["depthwise_taps", "channels_last"], tmp_path)
    assert found.operators[1]["Conv"] == 0
    assert found.operators[1]["Transpose"] < found.operators[0]["Transpose"]
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


@pytest.mark.parametrize("axis", [0, None], ids=["a channel", "a weight"])
def test_quantized_convolutions_keep_their_scales(tiny_special: Student, axis: int | None, tmp_path: Path) -> None:
    """A scale a channel becomes the product's axis 1; one scale a weight, as trt has it, stays one."""
    component = quantize(tiny_special, "onnx", "int8").components["transformer"]
    layers = {n: replace(v, weight_axis=axis) if ".ff." in n else v for n, v in component.layers.items()}
    found = compare(replace(component, layers=layers), ["depthwise_taps", "channels_last"], tmp_path)
    assert found.operators[1]["Conv"] == 0
    assert found.operators[1]["QuantizeLinear"] == found.operators[0]["QuantizeLinear"]
    assert found.deviation <= FLIPPED, f"deviation {found.deviation:.1e}, tolerance {FLIPPED}"


def test_4_bits_keep_their_blocks(tiny_special: Student, tmp_path: Path) -> None:
    """TensorRT refuses blocks of a convolution's weight and takes those of a product's."""
    component = quantize(tiny_special, "onnx", "w4a16", "fast").components["transformer"]
    found = compare(component, ["depthwise_taps", "channels_last"], tmp_path)
    assert found.operators[1]["Conv"] == 0
    assert found.operators[1]["DequantizeLinear"] == found.operators[0]["DequantizeLinear"] > 0
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


def test_all_rewrites_of_the_target_together(made_special: Student, tmp_path: Path) -> None:
    rewrites = load_target("trt").rewrites
    found = compare(made_special.components["transformer"], rewrites, tmp_path)
    assert found.operators[1]["Conv"] == found.operators[1]["ReduceSum"] == 0
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"
