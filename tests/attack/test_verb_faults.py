"""A few wrong values of the verbs that look at bundles; benchmarks/attack.py verb_faults runs more, and other faults."""

from __future__ import annotations

from tests.attack.fresh import run_campaign
from tests.attack.verb_faults import LOADED


def test_a_wrong_value_is_one_line_and_status_2() -> None:
    tally = run_campaign("verb_faults", 12, 5, kinds=LOADED)
    assert tally.total == 12
    assert not tally.faults, "\n".join(tally.faults)
