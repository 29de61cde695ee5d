"""Intervals of means: Student's for few, the wider of Student's and the bootstrap's for more."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.validate.confidence import means
from sprint_export.validate.confidence.evidence import Mean
from sprint_export.validate.confidence.means import bootstrap_interval, expand_bootstrap, mean_interval, student_interval


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([30.0, 34.0], (32 - 12.706 * 2, 32 + 12.706 * 2)),  # standard error 2, t of one degree of freedom 12.706
        ([30.0, 32.0, 34.0, 36.0], (33 - 3.1824 * 1.29099, 33 + 3.1824 * 1.29099)),
        ([40.0] * 5, (40.0, 40.0)),
        ([40.0] * 20, (40.0, 40.0)),
        ([30.0], None),
        ([30.0, np.inf], None),
    ],
)
def test_the_interval_of_a_mean(values: list[float], interval: tuple[float, float] | None) -> None:
    found = mean_interval(np.array(values))
    assert found == (interval if interval is None else pytest.approx(interval, rel=1e-3))


def test_an_interval_of_four_holds_the_true_mean_nineteen_times_of_twenty() -> None:
    draws = np.random.default_rng(0).normal(33.0, 2.0, (4000, 4))
    found = [low < 33.0 < high for low, high in filter(None, map(mean_interval, draws))]
    assert np.mean(found) == pytest.approx(0.95, abs=0.012)


def test_of_more_it_is_the_hull_of_both_and_the_same_each_time() -> None:
    values = 40 - np.random.default_rng(0).exponential(2.0, 24)
    student, bootstrapped, found = student_interval(values, 0.95), bootstrap_interval(values, 0.95), mean_interval(values)
    assert found == (min(student[0], bootstrapped[0]), max(student[1], bootstrapped[1]))
    assert bootstrapped[0] < student[0], "the tail is below: the bootstrap follows it"
    assert mean_interval(values) == found


def test_a_skewed_figure_is_held_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "RESAMPLES", 499)
    draws = 40 - np.random.default_rng(0).exponential(2.0, (400, 32))
    found = [low < 38.0 < high for low, high in filter(None, map(mean_interval, draws))]
    assert 0.92 <= np.mean(found) <= 0.98


def test_resamples_are_the_same_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = 40 - np.random.default_rng(0).exponential(2.0, 200)
    whole = bootstrap_interval(values, 0.95)
    monkeypatch.setattr(means, "VALUES_AT_ONCE", 12_345)
    assert bootstrap_interval(values, 0.95) == whole


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_of_many_values_the_bootstrap_is_its_expansion(confidence: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a few hundredths of its reach: as far as 9,999 resamples know its ends."""
    values = 40 - np.random.default_rng(0).exponential(2.0, 1000) ** 1.5
    expanded = expand_bootstrap(values, confidence)
    low, high = bootstrap_interval(values, confidence)
    reach = (high - low) / 2
    assert expanded == pytest.approx((low, high), abs=(0.02 if confidence < 0.99 else 0.06) * reach)
    assert values.mean() - low > 1.02 * (high - values.mean()), "the tail is below"
    monkeypatch.setattr(means, "MOST_RESAMPLED", 999)
    assert bootstrap_interval(values, confidence) == expanded


def test_an_interval_is_computed_once_for_each_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(
        "sprint_export.validate.confidence.evidence.mean_interval", lambda values, confidence: asked.append(confidence)
    )
    mean = Mean(np.arange(9.0))
    for confidence in (0.95, 0.99, 0.95):
        mean.interval(confidence)
    assert asked == [0.95, 0.99]
