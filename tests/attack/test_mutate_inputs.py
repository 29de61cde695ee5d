"""A few altered inputs of the verbs; benchmarks/attack.py mutate_inputs runs thousands."""

from __future__ import annotations

from tests.attack.fresh import run_campaign
from tests.attack.outcomes import CLEAN, RIGHT

COUNT = 40


def test_an_altered_input_is_read_right_or_refused_in_one_line() -> None:
    tally = run_campaign("mutate_inputs", COUNT, 11)
    assert not tally.faults, "\n".join(tally.faults)
    assert tally.total == COUNT
    counts = {outcome: sum(counter[outcome] for counter in tally.counts.values()) for outcome in (RIGHT, CLEAN)}
    assert min(counts.values()) > COUNT / 8, f"{counts}: attacks that all end alike prove little"
