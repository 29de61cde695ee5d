"""Interval of the mean over all prompts, from the figures of the drawn ones.

It is the hull of two: the bootstrap's (bias-corrected and accelerated, scipy's), which follows a skewed figure, and Student's t,
which is right for the few pictures of which a bootstrap knows too little: of four, a bootstrap holds the truth in about 8 of 10
draws. `benchmarks/gate_power.py` has the shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RESAMPLES = 9999
FEWEST_BOOTSTRAPPED = 8  # below, Student's interval is the wider one almost always, and resamples are few different ones


def mean_interval(values: npt.NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float] | None:
    """Where the mean over all prompts lies; None of one value, or where one is no number. Equal arguments, equal interval."""
    import numpy as np

    if len(values) < 2 or not np.isfinite(values).all():
        return None
    low, high = student_interval(values, confidence)
    if len(values) < FEWEST_BOOTSTRAPPED or np.ptp(values) == 0:
        return low, high
    other_low, other_high = bootstrap_interval(values, confidence)
    return min(low, other_low), max(high, other_high)


def student_interval(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """By Student's t."""
    from scipy.stats import t

    middle = float(values.mean())
    reach = float(t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return middle - reach, middle + reach


def bootstrap_interval(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """By the bootstrap; its noise is seeded."""
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)
