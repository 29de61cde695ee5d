"""Linear attention with its denominator as a column: the same values, no float32 product, no reduction over tokens."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import producers, types_of
from tests.export.to_onnx.rules.before_after import compare

TOLERANCE = 5e-6  # relative, float32; measured 9e-8 to 3e-7
LAYERS = {"tiny_student": 2, "made": 3}


@pytest.fixture(params=LAYERS)
def student(request: pytest.FixtureRequest) -> Student:
    found: Student = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_the_same_function(student: Student, steps: int, tmp_path: Path) -> None:
    found = compare(specialize_student(student, steps).components["transformer"], ["linear_attention"], tmp_path)
    before, after = found.operators
    layers = after["Concat"]
    assert layers in LAYERS.values()
    assert before["ReduceSum"] == 2 * layers
    assert after["ReduceSum"] == 0
    assert after["MatMul"] == before["MatMul"]
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


def test_products_run_in_16_bits_at_rank_3(tiny_special: Student, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_graph(make_graph(tiny_special.components["transformer"], "bf16", ["linear_attention"]), path)
    model = onnx.load(str(path))
    types, made_by = types_of(model), producers(model)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert {types[node.output[0]] for node in products} == {TensorProto.BFLOAT16}
    summaries = [node for node in products if made_by.get(node.input[1], node).op_type == "Transpose" and "MatMul" in node.name]
    assert len([node for node in summaries if node.input[0] in made_by]) >= 2


def test_another_batch_is_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """Nothing of a decoder has this form."""
    found = compare(tiny_special.components["vae_decoder"], ["linear_attention"], tmp_path)
    assert found.operators[0] == found.operators[1]
    assert found.deviation == 0
