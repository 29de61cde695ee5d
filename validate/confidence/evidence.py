"""What was drawn says of one metric: its value, an interval at any confidence, and what as many more pictures alike would say."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.confidence.rates import paired_interval, wilson_interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Interval = tuple[float, float]
FEW = 32  # pictures, which may all lie on the right side of a tail; their interval then is too narrow
MARGIN = 0.5  # of their spread, beyond each of them


class Evidence(Protocol):
    """A sample of pictures, for one metric."""

    @property
    @abstractmethod
    def count(self) -> float:
        """Pictures."""

    @property
    @abstractmethod
    def value(self) -> float:
        """The metric's, in its unit."""

    @abstractmethod
    def interval(self, confidence: float) -> Interval | None:
        """Where the value over all prompts lies; None where the sample says nothing."""

    @abstractmethod
    def grow(self, count: float) -> Evidence:
        """The same shares, or the same mean and spread, of another count of pictures."""

    @abstractmethod
    def is_clear(self, limit: float) -> bool:
        """Whether so few pictures may end a validation: where they are few, none of them lies near the limit."""

    @abstractmethod
    def at_best(self) -> Evidence:
        """The clearest sample of this count that could have been drawn: what it leaves open, this count leaves open."""


@dataclass(frozen=True)
class Mean:
    """The mean of one figure a picture, float64 [b]."""

    values: npt.NDArray[np.float64]
    _known: dict[float, Interval | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def count(self) -> float:
        return len(self.values)

    @property
    def value(self) -> float:
        return float(self.values.mean())

    def interval(self, confidence: float) -> Interval | None:
        if confidence not in self._known:  # how many pictures would decide a gate is asked of it many times
            self._known[confidence] = mean_interval(self.values, confidence)
        return self._known[confidence]

    def grow(self, count: float) -> Evidence:
        return _GrownMean(self, count)

    def is_clear(self, limit: float) -> bool:
        low, high = float(self.values.min()), float(self.values.max())
        margin = MARGIN * (high - low)
        return len(self.values) > FEW or not low - margin <= limit <= high + margin

    def at_best(self) -> Evidence:
        return _GrownMean(self, self.count).at_best()


@dataclass(frozen=True)
class _GrownMean:
    """A mean whose interval has shrunk as the square root of the count has grown."""

    sample: Mean
    count: float

    @property
    def value(self) -> float:
        return self.sample.value

    def interval(self, confidence: float) -> Interval | None:
        found, shrunk = self.sample.interval(confidence), (self.sample.count / self.count) ** 0.5
        return found and (self.value - shrunk * (self.value - found[0]), self.value + shrunk * (found[1] - self.value))

    def grow(self, count: float) -> Evidence:
        return replace(self, count=count)

    def is_clear(self, limit: float) -> bool:
        return self.count > FEW or self.sample.is_clear(limit)

    def at_best(self) -> Evidence:
        return self if self.count < 2 else replace(self, count=float("inf"))


@dataclass(frozen=True)
class Share:
    """`right` of `count` pictures are right; in percent."""

    right: float
    count: float

    @property
    def value(self) -> float:
        return 100 * self.right / self.count

    def interval(self, confidence: float) -> Interval | None:
        return wilson_interval(self.right, self.count, confidence)

    def grow(self, count: float) -> Self:
        return replace(self, right=self.right * count / self.count, count=count)

    def is_clear(self, limit: float) -> bool:
        return True

    def at_best(self) -> Self:
        return replace(self, right=self.count)


@dataclass(frozen=True)
class Loss:
    """Of `count` pairs, `lost` are right in the reference alone and `won` in the export alone; in points."""

    lost: float
    won: float
    count: float

    @property
    def value(self) -> float:
        return 100 * (self.lost - self.won) / self.count

    def interval(self, confidence: float) -> Interval | None:
        return paired_interval(self.lost, self.won, self.count, confidence)

    def grow(self, count: float) -> Self:
        factor = count / self.count
        return replace(self, lost=self.lost * factor, won=self.won * factor, count=count)

    def is_clear(self, limit: float) -> bool:
        return True

    def at_best(self) -> Self:
        return replace(self, lost=0, won=0)
