"""A few altered bundles of every kind; benchmarks/attack.py mutate_bundles runs thousands over all targets."""

from __future__ import annotations

from tests.attack.fresh import run_campaign
from tests.attack.outcomes import CLEAN, RIGHT

COUNT = 60


def test_an_altered_bundle_is_right_or_one_line() -> None:
    tally = run_campaign("mutate_bundles", COUNT, 7, targets=["onnx-int8"])
    assert not tally.faults, "\n".join(tally.faults)
    counts = {outcome: sum(counter[outcome] for counter in tally.counts.values()) for outcome in (RIGHT, CLEAN)}
    assert tally.total >= 2 * COUNT
    assert min(counts.values()) > COUNT / 4, f"{counts}: attacks that all end alike prove little"
    assert len({row.partition(": ")[2].partition(",")[0] for row in tally.counts}) >= 4, "kinds of attack"
