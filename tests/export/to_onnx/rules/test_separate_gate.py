"""A gated convolution in two halves: the same values, and nothing is split any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import quantize
from tests.export.to_onnx.rules.before_after import compare

TOLERANCE = 5e-6  # relative, float32
ROLES = ["transformer", "vae_decoder"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["tiny_student", "made"])
def test_it_is_the_same_function(name: str, role: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    found = compare(specialize_student(student).components[role], ["separate_gate"], tmp_path)
    before, after = found.operators
    gates = before["Split"] - after["Split"]
    assert gates > 0
    assert after["Conv"] == before["Conv"] + 2 * gates
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


@pytest.mark.parametrize(("role", "precision"), [*((role, "int8") for role in ROLES), ("transformer", "w4a16")])
def test_scales_of_a_quantized_weight_go_with_their_rows(made: Student, role: str, precision: str, tmp_path: Path) -> None:
    """A scale a row, or one for each block of it."""
    special = quantize(specialize_student(made), "onnx", precision)
    found = compare(special.components[role], ["separate_gate"], tmp_path)
    assert found.operators[1]["Split"] < found.operators[0]["Split"]
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


def test_a_split_of_tokens_is_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """Nothing of a text encoder has this form."""
    found = compare(tiny_special.components["text_encoder"], ["separate_gate"], tmp_path)
    assert found.operators[0] == found.operators[1]
    assert found.deviation == 0
