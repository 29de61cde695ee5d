"""Interval of a figure that a whole set of pictures has and none of them alone (FID, CMMD): the jackknife over groups.

Pictures are dealt into G groups; f is the figure of all, f_g of all without group g. Tukey's pseudo-values of its logarithm

    p_g = G log f - (G - 1) log f_g      moved so that their mean is log f

are taken for G independent values, of whose mean the interval is asked (means.py). In logarithms, as such figures are above 0 and
their distribution has its tail above: their deviation grows with them.

It says where the figure of as many other pictures lies on average. That is not where it tends to as pictures grow: FID falls with
their count, so a limit on it holds for a count. For any figure that does not depend on the order of independent pictures, the
variance that this stands on is on average not too small (Efron and Stein, Annals of Statistics 9 (1981)). A bootstrap of pictures
would draw some twice, which such figures take for fewer pictures, and be far above them.

Where features have long tails, most sets hold few of the pictures that make a figure large, and say too little of both the figure
and its spread. So the interval of the pseudo-values is asked to miss RARER times as rarely as the figure's own may.
`benchmarks/set_intervals.py` has shares of intervals that hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sprint_export.validate.confidence.means import mean_interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]

GROUPS = 32  # at most: Student's t is then 4 % wider than the normal one
RARER = 5  # by simulation of sets of 16 and 64 pictures: one-sided misses of long tails are then at most 5 %, and not 9
NOTHING = 1e-6  # FID and CMMD below this are what rounding leaves


def deal_groups(count: int) -> npt.NDArray[np.int64]:
    """The group of each of `count` pictures, [count]: in turn, so that neighbours are apart; of few pictures each is one."""
    import numpy as np

    return np.arange(count) % min(count, GROUPS)


def jackknife_interval(value: float, without: Float64 | None, confidence: float = 0.95) -> tuple[float, float] | None:
    """Where a figure that is never below 0 lies on average over such sets, or wider; `without` [G]: f_g. None of fewer than 2.

    Where one of them is nothing, as of equal pictures, pseudo-values are of the figure itself.
    """
    import numpy as np

    if without is None:
        return None
    figures = np.array([value, *without])
    has_logarithms = bool((figures > NOTHING).all())
    whole, *rest = np.log(figures) if has_logarithms else figures
    count = len(rest)
    pseudo = count * whole - (count - 1) * np.array(rest)
    ends = mean_interval(pseudo - pseudo.mean() + whole, 1 - (1 - confidence) / RARER) if count > 1 else None
    if ends is None:
        return None
    low, high = np.exp(ends) if has_logarithms else ends
    return max(0.0, float(low)), float(high)
