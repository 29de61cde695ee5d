"""A small count of the campaign, and what it takes for right."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.attack import machine_faults
from tests.attack.machine_faults import Fault, judge, make_faults
from tests.attack.outcomes import CLEAN, RIGHT, SIGNAL, TRACEBACK, WRONG, Tally

COUNT = 18


def test_a_machine_that_lacks_something_is_told_so_in_one_line() -> None:
    tally = Tally()
    machine_faults.run(COUNT, 11, tally)
    assert tally.total == COUNT
    assert len(tally.counts) == 6, "every kind was tried"
    assert not tally.faults, "\n".join(tally.faults)


def test_the_seed_gives_the_faults() -> None:
    def draw(seed: int) -> list[str]:
        return [fault.sample for fault in itertools.islice(make_faults(seed, Path("b"), Path("s")), 60)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (3, "error: torch is not installed\n", CLEAN),
        (0, "", RIGHT),
        (1, "Traceback (most recent call last)\n", TRACEBACK),
        (3, "error: one\nerror: two\n", WRONG),
        (3, "", WRONG),
        (2, "error: another status\n", WRONG),
        (-6, "", SIGNAL),
        (3, "error: x\nException ignored in: <stdout>\n", TRACEBACK),
    ],
)
def test_what_counts_as_right(status: int, text: str, outcome: str) -> None:
    assert judge(Fault("missing library", ["run"], (0, 3)), status, text) == outcome
