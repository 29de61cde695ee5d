"""A depthwise convolution as nine shifts: torch's values, borders included; other convolutions stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.nouns.student import Student
from tests.export.to_onnx.graphs import small_component
from tests.export.to_onnx.rules.before_after import compare

TOLERANCE = 5e-6  # relative, float32: nine terms in another order; measured 9e-8 to 2e-7


def test_only_the_depthwise_convolution_is_replaced(tmp_path: Path) -> None:
    """`Small` has a dense 3x3, a depthwise 3x3 and a 1x1 convolution; images of 8 x 8 are half border."""
    found = compare(small_component(), ["depthwise_taps"], tmp_path)
    before, after = found.operators
    assert (before["Conv"], after["Conv"], after["Slice"], after["Pad"]) == (3, 2, 9, 1)
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"


@pytest.mark.parametrize("name", ["tiny_special", "made_special"])
def test_feed_forward_is_the_same(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    found = compare(student.components["transformer"], ["depthwise_taps"], tmp_path)
    assert found.operators[1]["Pad"] == student.configs["transformer"]["num_layers"]
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"
