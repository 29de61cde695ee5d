"""Softmax attention at rank 3: bit for bit the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import shape_inference

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.rules.before_after import BeforeAfter, compare


def ranks_of_softmax(found: BeforeAfter) -> list[set[int]]:
    """Of every Softmax, before and after."""
    ranks = []
    for model in found.models:
        values = {v.name: len(v.type.tensor_type.shape.dim) for v in shape_inference.infer_shapes(model).graph.value_info}
        ranks.append({values[node.output[0]] for node in model.graph.node if node.op_type == "Softmax"})
    return ranks


@pytest.mark.parametrize("name", ["tiny_student", "made"])
def test_heads_are_split_at_rank_3(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    found = compare(specialize_student(student).components["transformer"], ["cross_attention"], tmp_path)
    assert ranks_of_softmax(found) == [{4}, {3}]
    assert found.deviation == 0


def test_grouped_queries_are_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """The text encoder repeats its keys for several heads, which is not this form."""
    found = compare(tiny_special.components["text_encoder"], ["cross_attention"], tmp_path)
    assert ranks_of_softmax(found) == [{4}, {4}]
