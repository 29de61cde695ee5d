"""The campaign in small."""

from __future__ import annotations

import pytest

pytest.importorskip("coremltools")

from tests.attack.fresh import run_campaign


def test_a_damaged_package_is_read_right_or_refused_in_one_line() -> None:
    tally = run_campaign("mutate_packages", 40, 1)
    assert tally.total == 40
    assert not tally.faults, "\n".join(tally.faults)
