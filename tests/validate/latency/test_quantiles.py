"""Intervals of percentiles: their ranks against the binomial distribution, their coverage by simulation, drift within a run."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.validate.latency.quantiles import (
    STUDENT,
    bound_median,
    bound_quantile,
    count_needed,
    find_quantile,
    find_ranks,
)


@pytest.mark.parametrize(
    ("count", "share", "ranks"), [(5, 0.5, None), (6, 0.5, (1, 6)), (20, 0.5, (6, 15)), (100, 0.5, (40, 61))]
)
def test_ranks_are_those_of_the_tables_of_the_sign_test(count: int, share: float, ranks: tuple[int, int] | None) -> None:
    assert find_ranks(count, share) == ranks


@pytest.mark.parametrize(("count", "share"), [(50, 0.5), (200, 0.9), (500, 0.99), (1001, 0.5)])
def test_each_side_is_wrong_with_two_and_a_half_percent_and_the_next_rank_would_be_more(count: int, share: float) -> None:
    ranks = find_ranks(count, share)
    assert ranks is not None
    low, high = ranks

    def below(number: int) -> float:
        """P(B < number)."""
        return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(number))

    assert below(low) <= 0.025 < below(low + 1)
    assert 1 - below(high) <= 0.025 < 1 - below(high - 1)


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_an_interval_takes_so_many_values(share: float, count: int) -> None:
    assert count_needed(share) == count
    assert find_ranks(count, share) is not None
    assert find_ranks(count - 1, share) is None
    assert bound_quantile([1.0] * (count - 1), share) is None


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_holds_the_true_percentile_in_at_least_95_percent(share: float) -> None:
    draws = np.random.default_rng(0).lognormal(0.0, 0.5, (1000, 60))
    true = math.exp(0.5 * {0.5: 0.0, 0.9: 1.2815515655446004}[share])
    bounds = [bound_quantile(list(each), share) for each in draws]
    held = np.mean([low <= true <= high for low, high in filter(None, bounds)])
    assert len(bounds) == 1000
    assert held >= 0.95


def test_a_drift_within_the_run_and_fresh_processes_widen_the_interval_of_the_p50() -> None:
    random = np.random.default_rng(0)
    steps = [10.0 + part for part in range(5) for _ in range(40)]
    shuffled = list(random.permutation(steps))
    assert find_quantile(steps, 0.5) == 12.0
    low, high = bound_median(steps) or (0.0, 0.0)
    assert low < 10.0
    assert high > 14.0
    steady = bound_median(shuffled) or (0.0, 0.0)
    assert high / low > 1.3 * steady[1] / steady[0]
    other = bound_median(shuffled, [13.0, 13.5, 13.2]) or (0.0, 0.0)
    assert other[0] < steady[0]
    assert other[1] > max(13.5, steady[1])


def make_drift(random: np.random.Generator, count: int, slope: float) -> npt.NDArray[np.float64]:
    """A series whose power falls with frequency to this power: 0 white, 1 the same at every scale of time; deviation 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2)
    spectrum[0] = 0
    series: npt.NDArray[np.float64] = np.fft.irfft(spectrum, count)
    return np.asarray(series / series.std())


@pytest.mark.parametrize(("slope", "least"), [(0.0, 0.99), (1.0, 0.94), (2.0, 0.6)])
def test_the_p50_of_the_next_four_runs_lies_within_the_interval_of_a_run(slope: float, least: float) -> None:
    random, held, runs, count = np.random.default_rng(0), [], 5, 100
    for _ in range(60):
        pictures = 10.0 * np.exp(0.03 * make_drift(random, 40 * count, slope)[: runs * count])
        pictures *= np.exp(0.01 * random.standard_normal(runs * count))
        parts = pictures.reshape(runs, count)
        medians = np.median(parts, axis=1)
        for place, part in enumerate(parts):
            low, high = bound_median(list(part)) or (0.0, 0.0)
            held += [low <= other <= high for i, other in enumerate(medians) if i != place]
    assert len(held) == 1200
    assert np.mean(held) >= least


def test_students_t_is_that_of_scipy() -> None:
    from scipy.stats import t

    assert list(STUDENT) == pytest.approx([t.ppf(0.975, free) for free in range(1, len(STUDENT) + 1)], abs=5e-4)
