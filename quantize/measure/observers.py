"""Observers: how the range of a layer's input is chosen from its record.

    max          a = max |x|
    percentile   a = the magnitude that 99.99 % of all values stay below
    mse          a = argmin over a <= max |x| of   sum_x  e(x, a)
                 e = (x - a)^2       beyond the range
                 e = x^2             below half the smallest step, where x becomes 0
                 e = step(x)^2 / 12  elsewhere: an error anywhere within half a step is equally likely
INT8 has one step, a / 127. FP8 E4M3 has 8 steps an octave, so a larger range costs nothing until values fall below its smallest
normal number, and clipping costs much: `percentile` is for INT8. A channel that is divided by a smoothing factor counts at its
divided magnitude.

The range is then rounded to a few digits: in its last ones, what was measured differs from device to device and by the number
of threads, and files and keys shall not (docs/decisions/0028-compute.md).
Sources: arXiv 2004.09602 section 5.2 (max, percentile), 1902.06822 (mse).
Not covered: ranges a channel, which no 8-bit matmul takes for its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sprint_export.errors import unknown_choice
from sprint_export.quantize.measure.records import BINS, Record, bin_start
from sprint_export.quantize.schemes.formats import Format

PERCENTILE = 0.9999
POINTS = 4  # a bin is up to a quarter of its start wide and stands for values spread evenly over it
RANGE_BITS = 7  # of a range: it is moved by at most 0.8 %, one step of 127
CANDIDATES = 160  # ranges that are tried
CANDIDATES_PER_OCTAVE = 16  # down from the largest value: ten octaves, outliers of a thousand times the rest


@dataclass(frozen=True)
class Spread:
    """Magnitudes float32 [n] in rising order, how often each occurs, float64 [n], and the largest of all."""

    magnitudes: torch.Tensor
    counts: torch.Tensor
    amax: float


def choose_range(record: Record, format: Format, observer: str, divisor: torch.Tensor | None = None) -> float:
    """The largest magnitude a layer's input scale covers.

    Args:
        record: of the input as it was seen.
        format: what it is rounded to.
        observer: one of `OBSERVERS`.
        divisor: by which each channel will be divided, float [C].

    Raises:
        InputError: there is no such observer.
    """
    check_observer(observer)
    return round_range(OBSERVERS[observer](_spread(record, divisor), format))


def round_range(amax: float) -> float:
    """The nearest number of RANGE_BITS binary digits."""
    mantissa, exponent = math.frexp(amax)
    return math.ldexp(round(mantissa * 2**RANGE_BITS), exponent - RANGE_BITS)


def check_observer(observer: str) -> None:
    """Refuse a name that is none.

    Raises:
        InputError: the message lists them.
    """
    if observer not in OBSERVERS:
        raise unknown_choice("observer", observer, OBSERVERS)


def _spread(record: Record, divisor: torch.Tensor | None) -> Spread:
    starts = bin_start(torch.arange(record.top - BINS, record.top + 1).clamp_min(0))
    offsets = (torch.arange(POINTS) + 0.5) / POINTS
    points = (starts[:-1, None] + (starts[1:] - starts[:-1])[:, None] * offsets).flatten()  # [BINS POINTS]
    amax = record.amax if divisor is None else record.amax / divisor
    if divisor is None:
        magnitudes, counts = points, record.counts.sum(0, dtype=torch.float64)
    else:
        magnitudes, counts = (points / divisor[:, None]).flatten(), record.counts.double()
    magnitudes = magnitudes.clamp_max(amax.max())  # the last bin reaches beyond
    magnitudes, order = magnitudes.sort()
    return Spread(magnitudes, (counts / POINTS).repeat_interleave(POINTS, dim=-1).flatten()[order], float(amax.max()))


def _choose_max(spread: Spread, format: Format) -> float:
    return spread.amax


def _choose_percentile(spread: Spread, format: Format) -> float:
    below = spread.counts.cumsum(0)
    place = torch.searchsorted(below, PERCENTILE * below[-1])
    return float(spread.magnitudes[min(int(place), len(below) - 1)])


def _choose_mse(spread: Spread, format: Format) -> float:
    tried = spread.amax * 2.0 ** (-torch.arange(CANDIDATES) / CANDIDATES_PER_OCTAVE)
    errors = [_expect_error(spread, float(range_), format) for range_ in tried]
    return float(tried[int(torch.tensor(errors).argmin())])


def _expect_error(spread: Spread, amax: float, format: Format) -> float:
    x, scale = spread.magnitudes, amax / format.qmax
    step = torch.full_like(x, scale)
    if format.is_float:
        grid = torch.finfo(getattr(torch, format.storage))
        step = scale * grid.eps * 2.0 ** (x / scale).log2().floor().clamp_min(torch.tensor(grid.smallest_normal).log2())
        smallest = scale * grid.eps * grid.smallest_normal
    else:
        smallest = scale
    error = torch.where(x < smallest / 2, x.square(), step.square() / 12)
    error = torch.where(x > amax, (x - amax).square(), error)
    return float((error.double() * spread.counts).sum())


OBSERVERS: dict[str, Callable[[Spread, Format], float]] = {
    "max": _choose_max,
    "percentile": _choose_percentile,
    "mse": _choose_mse,
}
