"""Numbers of reports are read by people: no 4.096e+04 ms."""

from __future__ import annotations

import math

import pytest

from sprint_export.nouns.report import Measurement
from sprint_export.validate.report import format_number, format_range


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (40956.186, "40956"),
        (1234.5678, "1235"),
        (999.96, "1000"),
        (33.3649, "33.36"),
        (3.0, "3"),
        (0.00012346, "0.0001235"),
        (-12345.6, "-12346"),
        (2.5e9, "2.5e+09"),
        (math.inf, "inf"),
        (math.nan, "none"),
    ],
)
def test_a_number_is_written_without_a_power_of_ten_below_a_million(value: float, text: str) -> None:
    assert format_number(value) == text


def test_so_are_the_ends_of_an_interval() -> None:
    row = Measurement("latency_p50_ms", 13000.4, "ms", interval=(12345.6, 0.98765e6))
    assert format_range(row) == "12346 to 987650"
    assert format_range(Measurement("psnr_db", 33.4, "dB", interval=(32.638, 34.071))) == "32.6 to 34.1"
