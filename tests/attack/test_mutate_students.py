"""A few mutated students of every kind: drawn as stock diffusers draws them, or refused in one line."""

from __future__ import annotations

from tests.attack import mutate_students
from tests.attack.fresh import run_campaign


def test_mutated_students_are_drawn_right_or_refused() -> None:
    tally = run_campaign("mutate_students", 3 * len(mutate_students.KINDS), 1)
    assert not tally.faults, "\n".join(tally.faults)
    assert tally.total == 3 * len(mutate_students.KINDS)
