"""RMS norms divide, and ONNX Runtime then runs each as one operation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.nouns.student import Student
from tests.export.to_onnx.graphs import count_ops, export_component, run_onnx
from tests.made_student import Array

TOLERANCE = 1e-6  # of the largest magnitude: a division rounds once where a reciprocal and a product round twice


@pytest.mark.parametrize("role", ["transformer", "vae_decoder"])
def test_every_root_of_a_mean_divides(
    made_special: Student, made_feeds: dict[str, dict[str, Array]], tmp_path: Path, role: str
) -> None:
    component = made_special.components[role]
    before = export_component(component, "fp32", tmp_path / "before")
    after = export_component(component, "fp32", tmp_path / "after", ["norm_divisions"])
    old, new = count_ops(before.model), count_ops(after.model)
    assert old["Reciprocal"] > 0
    assert new["Reciprocal"] == 0
    assert new["Div"] == old["Div"] + old["Reciprocal"]
    found, wanted = (run_onnx(graph.path, made_feeds[role], fuse=False) for graph in (after, before))
    deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert deviation < TOLERANCE, f"{deviation:.1e} of {TOLERANCE:.0e}"


def test_sums_are_left_alone(made_special: Student, tmp_path: Path) -> None:
    component = made_special.components["text_encoder"]
    before, after = (export_component(component, "fp32", tmp_path / str(n), ["norm_divisions"][:n]) for n in (0, 1))
    assert count_ops(before.model)["Reciprocal"] > 0
    assert before.model == after.model
