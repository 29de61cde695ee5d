"""The campaign in small."""

from __future__ import annotations

import pytest

pytest.importorskip("coremltools")

from tests.attack import mutate_packages
from tests.attack.outcomes import Tally


def test_a_damaged_package_is_read_right_or_refused_in_one_line() -> None:
    tally = Tally()
    mutate_packages.run(40, 1, tally)
    assert tally.total == 40
    assert not tally.faults, "\n".join(tally.faults)
