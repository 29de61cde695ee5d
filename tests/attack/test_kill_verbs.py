"""A few ends of the verbs that write; benchmarks/attack.py kill_verbs makes more, of exports too."""

from __future__ import annotations

from tests.attack.fresh import run_campaign

CHEAP = ("pack", "demo --out", "report --merge", "run", "plan --fit --save", "several targets")


def test_verbs_that_are_ended_leave_all_or_nothing_and_go_on() -> None:
    tally = run_campaign("kill_verbs", 10, 4, names=CHEAP)
    assert tally.total == 10
    assert not tally.faults, "\n".join(tally.faults)
