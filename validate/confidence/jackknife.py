"""Interval of a figure that a whole set of pictures has and none of them alone (FID, CMMD): the jackknife over groups.

Pictures are dealt into G groups; f_g is the figure without group g:

    v = (G - 1) / G  sum_g (f_g - mean f)^2        f +- t sqrt(v),  t Student's with G - 1 degrees of freedom

It says where the figure of as many other pictures lies on average. That is not where it tends to as pictures grow: FID falls with
their count, so a limit on it holds for a count. For any figure that does not depend on the order of independent pictures, v is on
average no smaller than the variance it stands for, that of the pictures that a group leaves (Efron and Stein, Annals
of Statistics 9 (1981)). A bootstrap would draw pictures twice, which such figures take for fewer pictures, and be far above them.
`benchmarks/set_intervals.py` has shares of intervals that hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]

GROUPS = 32  # at most; Student's t is then 4 % wider than the normal one


def deal_groups(count: int) -> npt.NDArray[np.int64]:
    """The group of each of `count` pictures, [count]: in turn, so that neighbours are apart; of few pictures each is one."""
    import numpy as np

    return np.arange(count) % min(count, GROUPS)


def jackknife_interval(value: float, without: Float64 | None, confidence: float = 0.95) -> tuple[float, float] | None:
    """Where a figure that is never below 0 lies on average over such sets; `without` [G]: f_g. None of fewer than 2."""
    import numpy as np
    from scipy.stats import t

    if without is None or len(without) < 2 or not np.isfinite(without).all():
        return None
    count = len(without)
    deviation = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    reach = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation
    return max(0.0, value - reach), value + reach
