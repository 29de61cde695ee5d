"""Axes of plots: a range that holds the values, round ticks, and where a value lies in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # times a power of ten
MOST_TICKS = 5  # that fit beside each other on a phone
EDGE = 1e-9  # of a step, that rounding may take


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def place(self, value: float) -> float:
        """The pixel of a value; of one outside the range, the nearest end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels of round values within the range."""
        first, last = math.ceil(self.low / self.step - EDGE), math.floor(self.high / self.step + EDGE)
        return [(self.place(i * self.step), self._label(i * self.step)) for i in range(first, last + 1)]

    def _label(self, value: float) -> str:
        decimals = next((n for n in range(7) if math.isclose(round(self.step, n), self.step)), 7)
        return f"{value:,.{decimals}f}".replace("-", "\u2212") if abs(value) < 1e9 and decimals < 7 else f"{value:.3g}"


def make_axis(values: Iterable[float], start: float, end: float, most_ticks: int = MOST_TICKS) -> Axis:
    """An axis from the round value at or below all of these to the one at or above; what is no number is left out."""
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        reach = abs(low) / 10 or 1.0
        low, high = low - reach, high + reach
    step = choose_step((high - low) / most_ticks)
    return Axis(math.floor(low / step + EDGE) * step, math.ceil(high / step - EDGE) * step, start, end, step)


def choose_step(least: float) -> float:
    """The smallest round step that is not below this one."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in STEPS if step * power >= least * (1 - EDGE))
