"""Percentiles of seconds and where they lie with 95 % confidence, without an assumption on how seconds are spread.

Order statistics: of n independent values, the number below the true q-quantile is binomial, B(n, q); so it lies between the j-th
and the k-th smallest with P(j <= B < k), and j, k are the closest with 95 %.

Pictures in a row are not independent: clocks, caches and other programs drift, and a fresh process is not like the last one.
So the interval of a p50 is that in which the p50 of another run like this one is to be expected. It is joined with

    p50 x exp(+-t s sqrt 2)     s: deviation of ln p50 over rounds: fifths of the run, fresh processes; t: Student's, rounds - 1
Both this run and the other are off by s: sqrt 2. s is not divided by the root of the number of rounds, as it would be if they
were independent: of a drift that looks the same at every scale of time (1/f) runs differ as the parts of a run do. By simulation
the p50s of five runs in a row lie in each other's interval with 100 % (no drift), 95 % (1/f), 74 % (a random walk;
tests/validate/latency/test_quantiles.py). A machine that changes afterwards is in no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
PARTS = 5  # of a run, in the order it was drawn
LEAST_IN_PART = 4  # pictures, for a part's percentile to say anything
LEAST_ROUNDS = 3
# Student's t at 97.5 %, by degrees of freedom from 1; scipy is not in a plain install.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)

Interval = tuple[float, float]


def find_quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them is below, between two of them where it falls there."""
    return float(np.quantile(values, share))


def bound_quantile(values: Sequence[float], share: float) -> Interval | None:
    """Where the quantile lies with 95 % confidence, by order statistics; None of too few values.

    Args:
        values: of one run.
        share: of the quantile, e.g. 0.9.
    """
    ranks = find_ranks(len(values), share)
    if ranks is None:
        return None
    ordered = sorted(values)
    return ordered[ranks[0] - 1], ordered[ranks[1] - 1]


def bound_median(values: Sequence[float], elsewhere: Sequence[float] = ()) -> Interval | None:
    """Where the p50 of another run like this one is to be expected, with 95 % confidence; None of too few values.

    Args:
        values: in the order they were measured; above 0.
        elsewhere: p50s of fresh processes.
    """
    found, rounds = bound_quantile(values, 0.5), [*split_medians(values), *elsewhere]
    if found is None or len(rounds) < LEAST_ROUNDS:
        return found
    middle, logarithms = math.log(find_quantile(values, 0.5)), np.log(rounds)
    # around this run's own p50, which fresh processes may all be on one side of
    spread = math.sqrt(float(np.sum((logarithms - middle) ** 2)) / (len(rounds) - 1))
    reach = STUDENT[min(len(rounds) - 1, len(STUDENT)) - 1] * spread * math.sqrt(2)
    return min(found[0], math.exp(middle - reach)), max(found[1], math.exp(middle + reach))


def split_medians(values: Sequence[float]) -> list[float]:
    """p50s of the parts of a run, in order; none of a short one."""
    parts = min(PARTS, len(values) // LEAST_IN_PART)
    return [float(np.median(part)) for part in np.array_split(np.asarray(values), parts)] if parts > 1 else []


def find_ranks(count: int, share: float) -> tuple[int, int] | None:
    """Ranks j < k, from 1, of ordered values between which the quantile lies with 95 % confidence, or None of too few values.

    Each side alone is wrong with at most 2.5 %.
    """
    below, low, high = 0.0, 0, 0
    for number in range(count):
        # below: P(B < number), so the j-th smallest is above the quantile with P(B < j)
        if below <= (1 - CONFIDENCE) / 2:
            low = number
        below += _binomial(count, number, share)
        if below >= (1 + CONFIDENCE) / 2:
            high = number + 1
            break
    return (low, high) if low and high else None


def count_needed(share: float) -> int:
    """How many values an interval of this quantile takes at least."""
    count = 2
    while find_ranks(count, share) is None:
        count = math.ceil(count * 1.02) + 1
    while find_ranks(count - 1, share) is not None:
        count -= 1
    return count


def _binomial(count: int, number: int, share: float) -> float:
    """P(B = number) of B(count, share)."""
    ways = math.lgamma(count + 1) - math.lgamma(number + 1) - math.lgamma(count - number + 1)
    return math.exp(ways + number * math.log(share) + (count - number) * math.log1p(-share))
