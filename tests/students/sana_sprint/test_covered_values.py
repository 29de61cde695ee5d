"""Keys of every config take values of every type: the picture is stock diffusers', or one line refuses it.

Some of them here; all of them with `benchmarks/attack.py flip_values`.
"""

from __future__ import annotations

from tests.attack import flip_values
from tests.attack.fresh import run_campaign
from tests.attack.outcomes import RIGHT


def test_a_flipped_value_draws_what_stock_draws_or_is_refused_in_one_line() -> None:
    tally = run_campaign("flip_values", 200, 3)
    assert not tally.faults, "\n".join(tally.faults)
    assert set(tally.counts) == set(flip_values.CONFIGS)
    assert sum(counter[RIGHT] for counter in tally.counts.values()) > 10, "most were refused: then this shows little"
