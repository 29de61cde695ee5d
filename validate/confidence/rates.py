"""Intervals of a rate, and of the difference of two rates of the same prompts and noises. Standard library only.

Both invert a score test: they hold near 0 and 1 and where no picture differs, where the normal interval has no width.

    rate                  Wilson (1927):  |k/n - p| <= z sqrt(p (1 - p) / n)
    difference of pairs   Tango, Statistics in Medicine 17 (1998):  |b - c - n d| <= z sqrt(n (2 q + d (1 - d)))

with b pictures lost, c won, and q the likeliest rate of won ones where the difference is d. At d = 0 that is McNemar's test,
(b - c)^2 / (b + c) <= z^2, so the interval holds 0 exactly where McNemar's test finds no change. Counts need not be whole: how
many pictures would decide a gate is asked of counts that have grown in proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

HALVINGS = 60  # of [-1, 1]: far below what a count can tell


def wilson_interval(right: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the true rate lies, in percent, if `right` of `count` pictures are."""
    z, share = _quantile(confidence), right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    return 100 * max(0.0, middle - reach), 100 * min(1.0, middle + reach)


def paired_interval(lost: float, won: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the true loss lies, in points, if of `count` pairs `lost` are right in the reference alone, `won` in the export."""
    z, middle = _quantile(confidence), (lost - won) / count
    low = _find_sign_change(lambda d: score_difference(lost, won, count, d) - z, -1.0, middle)
    high = _find_sign_change(lambda d: score_difference(lost, won, count, d) + z, middle, 1.0)
    return 100 * low, 100 * high


def score_difference(lost: float, won: float, count: float, difference: float) -> float:
    """Tango's statistic, standard normal where `difference` (lost minus won, of 1) is the true one; it falls as that grows."""
    d = difference
    b = -lost - won + (2 * count - lost + won) * d
    c = -won * d * (1 - d)
    likeliest = ((max(0.0, b * b - 8 * count * c)) ** 0.5 - b) / (4 * count)
    variance = count * (2 * likeliest + d * (1 - d))
    distance = lost - won - count * d
    if variance <= 0:
        return 0.0 if distance == 0 else float("inf") if distance > 0 else float("-inf")
    return float(distance / variance**0.5)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _find_sign_change(value: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function passes zero."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) > 0 else (low, middle)
    return (low + high) / 2
