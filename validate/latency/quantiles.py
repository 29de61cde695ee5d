"""Percentiles of seconds and where they lie with 95 % confidence, without an assumption on how seconds are spread.

Order statistics: of n independent values, the number below the true q-quantile is binomial, B(n, q); so it lies between the j-th
and the k-th smallest with P(j <= B < k), and j, k are the closest with 95 %. Pictures in a row are not independent (clocks, other
programs), so what the parts of a run say is joined to it: the percentile of each fifth of the run, the smallest to the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
PARTS = 5  # of a run, in the order it was drawn
LEAST_IN_PART = 4  # pictures, for a part's percentile to say anything

Interval = tuple[float, float]


def find_quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them is below, between two of them where it falls there."""
    return float(np.quantile(values, share))


def bound_quantile(values: Sequence[float], share: float) -> Interval | None:
    """Where the quantile lies with 95 % confidence, by order statistics and by the parts of the run; None of too few values.

    Args:
        values: in the order they were measured.
        share: of the quantile, e.g. 0.5.
    """
    ranks = find_ranks(len(values), share)
    if ranks is None:
        return None
    ordered = sorted(values)
    low, high = ordered[ranks[0] - 1], ordered[ranks[1] - 1]
    if len(values) >= PARTS * LEAST_IN_PART and share == 0.5:
        parts = [float(np.quantile(part, share)) for part in np.array_split(np.asarray(values), PARTS)]
        low, high = min(low, *parts), max(high, *parts)
    return low, high


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
