"""Axes hold their values, between round numbers with labels of few letters."""

from __future__ import annotations

import math

import pytest

from sprint_export.validate.page.axes import choose_step, make_axis


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((20.0, 120.0), ["20", "40", "60", "80", "100", "120"]),
        ((0.9975, 0.9999), ["0.9975", "0.998", "0.9985", "0.999", "0.9995", "1"]),
        ((-3.0, 3.0), ["\u22124", "\u22122", "0", "2", "4"]),
        ((0.0, 25_000.0), ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
        ((50.0,), ["44", "46", "48", "50", "52", "54", "56"]),
        ((), ["\u22121", "\u22120.5", "0", "0.5", "1"]),
        ((math.nan, math.inf, 1.0, 2.0), ["1", "1.2", "1.4", "1.6", "1.8", "2"]),
    ],
)
def test_ticks_are_round_and_hold_all_values(values: tuple[float, ...], labels: list[str]) -> None:
    axis = make_axis(values, 0, 100)
    found = [label for _, label in axis.ticks]
    assert [float(label.replace("\u2212", "-").replace(",", "")) for label in found] == pytest.approx(
        [float(label.replace("\u2212", "-").replace(",", "")) for label in labels]
    )
    assert all(axis.low <= value <= axis.high for value in values if math.isfinite(value))
    assert max(map(len, found)) <= 6


def test_a_value_outside_lies_at_the_nearest_end() -> None:
    axis = make_axis((0.0, 10.0), 300, 20)
    assert (axis.place(0), axis.place(5), axis.place(10)) == (300, 160, 20)
    assert (axis.place(-1e9), axis.place(math.inf)) == (300, 20)


def test_steps_are_the_next_round_ones() -> None:
    assert [choose_step(least) for least in (1.0, 1.1, 2.1, 3.0, 0.07)] == pytest.approx([1.0, 2.0, 2.5, 5.0, 0.1])
