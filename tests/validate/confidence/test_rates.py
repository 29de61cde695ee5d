"""Intervals of rates: Wilson's as scipy has it, Tango's as McNemar's test has it; both hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial

from sprint_export.validate.confidence.rates import paired_interval, score_difference, wilson_interval


@pytest.mark.parametrize(("right", "count"), [(64, 64), (63, 64), (0, 10), (506, 512), (1, 2), (250, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilsons_interval_is_scipys(right: int, count: int, confidence: float) -> None:
    wanted = binomtest(right, count).proportion_ci(confidence, "wilson")
    assert wilson_interval(right, count, confidence) == pytest.approx((100 * wanted.low, 100 * wanted.high))


@pytest.mark.parametrize(("lost", "won", "count"), [(9, 4, 60), (12, 2, 2048), (1, 0, 64), (3, 30, 100)])
def test_at_no_difference_the_score_is_mcnemars(lost: int, won: int, count: int) -> None:
    assert score_difference(lost, won, count, 0.0) == pytest.approx((lost - won) / (lost + won) ** 0.5)


@pytest.mark.parametrize(
    ("lost", "won", "count"), [(0, 0, 64), (1, 0, 64), (9, 4, 60), (2.5, 1.5, 100.0), (0, 7, 7), (64, 0, 64)]
)
def test_the_ends_are_where_the_score_is_its_quantile(lost: float, won: float, count: float) -> None:
    low, high = (end / 100 for end in paired_interval(lost, won, count))
    if low > -1:
        assert score_difference(lost, won, count, low) == pytest.approx(1.959964, abs=1e-4)
    if high < 1:
        assert score_difference(lost, won, count, high) == pytest.approx(-1.959964, abs=1e-4)
    assert low <= (lost - won) / count <= high


def test_where_no_pair_differs_it_is_wilsons_interval_of_none_lost() -> None:
    assert paired_interval(0, 0, 320)[1] == pytest.approx(wilson_interval(0, 320)[1])


@pytest.mark.parametrize("count", [64, 320])
@pytest.mark.parametrize(("loss", "won"), [(0.02, 0.0), (0.02, 0.004), (0.03, 0.0), (0.03, 0.01), (0.1, 0.05)])
def test_a_true_loss_at_the_limit_passes_in_at_most_one_of_forty_draws(loss: float, won: float, count: int) -> None:
    """Exact: the chances of all tables whose interval lies below the limit are added."""
    lost = loss + won
    passing = 0.0
    for b in range(int(binom.ppf(1 - 1e-9, count, lost)) + 1):
        for c in range(int(binom.ppf(1 - 1e-9, count, won)) + 1):
            if b + c <= count and score_difference(b, c, count, loss) <= -1.959964:
                passing += multinomial.pmf([b, c, count - b - c], count, [lost, won, 1 - lost - won])
    print(f"{count} pairs, loss {loss}, won {won}: passes in {passing:.4f}")
    assert passing <= 0.0275


@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.002), (0.004, 0.004), (0.03, 0.01)])
def test_it_holds_the_truth_in_95_of_100_draws(lost: float, won: float) -> None:
    tables = np.random.default_rng(0).multinomial(2048, (lost, won, 1 - lost - won), 2000)
    intervals = [paired_interval(int(a), int(b), 2048) for a, b, _ in tables]
    share = np.mean([low <= 100 * (lost - won) <= high for low, high in intervals])
    assert 0.935 <= share <= 0.985, "2,000 draws tell 95 % to within one point"


@pytest.mark.parametrize("share", [0.99, 0.9, 0.5])
def test_wilsons_interval_holds_the_truth_in_95_of_100_draws(share: float) -> None:
    """Averaged over counts, for at each the draws are few different ones."""
    held = []
    for count in range(100, 500, 25):
        rights = np.arange(count + 1)
        is_held = [low <= 100 * share <= high for low, high in (wilson_interval(int(right), count) for right in rights)]
        held.append(float(binom.pmf(rights, count, share) @ is_held))
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
