"""Intervals of percentiles: their ranks against the binomial distribution, their coverage by simulation, drift within a run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sprint_export.validate.latency.quantiles import bound_quantile, count_needed, find_quantile, find_ranks


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


def test_a_drift_within_the_run_widens_the_interval_to_its_parts() -> None:
    steps = [10.0 + part for part in range(5) for _ in range(40)]
    assert find_quantile(steps, 0.5) == 12.0
    assert bound_quantile(steps, 0.5) == (10.0, 14.0)
    shuffled = list(np.random.default_rng(0).permutation(steps))
    low, high = bound_quantile(shuffled, 0.5) or (0.0, 0.0)
    assert 11.0 <= low <= 12.0 <= high <= 13.0
