"""The campaign in small, and the shapes it draws."""

from __future__ import annotations

import pytest

pytest.importorskip("coremltools")

from tests.attack import odd_students
from tests.attack.outcomes import Tally


def test_shapes_are_the_seeds_own_and_differ() -> None:
    shapes = [odd_students.draw_shape(seed) for seed in range(200)]
    assert shapes == [odd_students.draw_shape(seed) for seed in range(200)]
    assert len({str(shape) for shape in shapes}) == 200
    assert {shape["transformer"]["qk_norm"] for shape in shapes} == {"rms_norm_across_heads", None}
    assert {shape["steps"] for shape in shapes} == {1, 2, 4}


def test_a_right_student_of_odd_shape_passes() -> None:
    tally = Tally()
    odd_students.run(1, 3, tally)
    assert tally.total == 2
    assert not tally.faults, "\n".join(tally.faults)
