"""One product in place of several of one input: columns, scales and biases side by side, values bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize import quantize_student
from sprint_export.registry import load_target
from tests.export.to_onnx.graphs import initializers, quantize, quantize_small, value_of
from tests.export.to_onnx.rules.before_after import BeforeAfter, compare
from tests.made_student import PROMPTS


def products_of_weights(found: BeforeAfter) -> list[Counter[str]]:
    """How many MatMuls read each dequantized input, before and after."""
    counts = []
    for model in found.models:
        quantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        counts.append(Counter(n.input[0] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in quantized))
    return counts


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_each_input_is_read_by_one_product(tiny_special: Student, precision: str, tmp_path: Path) -> None:
    component = quantize(tiny_special, "onnx", precision).components["transformer"]
    found = compare(component, ["merged_projections"], tmp_path)
    before, after = products_of_weights(found)
    assert max(before.values()) == 4, "keys and values of two blocks read one text"
    assert set(after.values()) == {1}
    assert found.deviation == 0


def test_columns_scales_and_biases_are_side_by_side(tmp_path: Path) -> None:
    component: Component = quantize_small("w8a8", "fp32", 0)
    found = compare(component, ["merged_projections"], tmp_path)
    before, after = (initializers(model) for model in found.models)
    for end in (".int8", ".scale", ".zero"):
        parts = [value_of(before[f"{layer}.weight.transposed{end}"]) for layer in ("left", "right")]
        wanted = np.concatenate(parts, axis=-1)
        same = [name for name, tensor in after.items() if np.array_equal(value_of(tensor), wanted)]
        assert same, f"no initializer holds both {end}"
    assert found.deviation == 0


def test_weights_in_blocks_are_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """Their scales lie along the inputs, and they have no zero point."""
    target = load_target("onnx")
    recipe = Recipe("blocks", (Rule("*", "int4"),), tuple(PROMPTS))
    component = quantize_student(tiny_special, "int8", target, recipe).components["transformer"]
    assert any(layer.group for layer in component.layers.values())
    found = compare(component, ["merged_projections"], tmp_path)
    assert found.operators[0]["DequantizeLinear"] > 10
    assert found.deviation == 0


def test_float_products_are_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    found = compare(tiny_special.components["transformer"], ["merged_projections"], tmp_path)
    assert found.operators[0] == found.operators[1]
