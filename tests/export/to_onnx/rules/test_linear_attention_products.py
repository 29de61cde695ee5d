"""Linear attention whose sums are products: the same values, no reduction over tokens, no transpose before a product."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import optimize
from tests.export.to_onnx.rules.before_after import compare

TOLERANCE = 5e-6  # relative, float32
LAYERS = {"tiny_student": 2, "made": 3}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_the_same_function(name: str, steps: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    component = specialize_student(student, steps).components["transformer"]
    found = compare(component, ["linear_attention_products"], tmp_path)
    before, after = found.operators
    assert before["ReduceSum"] == 2 * LAYERS[name]
    assert after["ReduceSum"] == 0
    assert after["MatMul"] == before["MatMul"] + 2 * LAYERS[name]
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


def test_onnx_runtime_takes_the_transposes_into_the_products(tiny_special: Student, tmp_path: Path) -> None:
    compare(tiny_special.components["transformer"], ["linear_attention_products"], tmp_path)
    found = Counter(node.op_type for node in optimize(tmp_path / "after" / "model.onnx").graph.node)
    assert found["FusedMatMul"] == 3 * LAYERS["tiny_student"]
