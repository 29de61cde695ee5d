"""Interval of the mean over all prompts, from the figures of the drawn ones.

It is the hull of two: the bootstrap's (bias-corrected and accelerated, scipy's), which follows a skewed figure, and Student's t,
which is right for the few pictures of which a bootstrap knows too little: of four, a bootstrap holds the truth in about 8 of 10
draws. `benchmarks/gate_power.py` has the shares.

Of many values the bootstrap of a mean is known without resampling: its quantiles follow the expansion of Cornish and Fisher, with
g the skewness of the values and s their deviation,

    mean + s / sqrt(n) (w + g (w^2 - 1) / (6 sqrt(n))),    w = z0 + (z0 + z) / (1 - a (z0 + z)),    z0 = a = g / (6 sqrt(n))

(Efron, Better bootstrap confidence intervals, JASA 82 (1987); Hall, The bootstrap and Edgeworth expansion (1992), chapter 2).
What it leaves out falls as 1 / n. Resampling 30,000 values 9,999 times takes seconds for each look at a row, and their jackknife
as many bytes as they have pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RESAMPLES = 9999
MOST_RESAMPLED = 4096  # values; above, the expansion
VALUES_AT_ONCE = 1 << 22  # of resamples, 32 MB
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

    if len(values) > MOST_RESAMPLED:
        return expand_bootstrap(values, confidence)
    found = bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        batch=max(1, VALUES_AT_ONCE // len(values)),
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def expand_bootstrap(values: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """What `bootstrap_interval` tends to as resamples and values grow, by its expansion."""
    from scipy.stats import norm, skew

    root = len(values) ** 0.5
    skewness, reach = float(skew(values)), float(values.std()) / root
    bias = skewness / (6 * root)  # and the acceleration: of a mean they are one
    ends = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + float(norm.ppf(share))
        w = bias + shifted / (1 - bias * shifted)
        ends.append(float(values.mean()) + reach * (w + skewness * (w * w - 1) / (6 * root)))
    return ends[0], ends[1]
