"""A row of a report before it is one: what was drawn says of a metric, at whatever confidence the row will be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Measurement
from sprint_export.validate.confidence.decisions import CONFIDENCE
from sprint_export.validate.confidence.evidence import Evidence, Mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Sampled:
    """One metric of the drawn pictures.

    Args:
        metric: the row's name.
        unit: likewise.
        note: likewise; `{}` in it becomes how many pictures they are.
        evidence: value and intervals.
        values: of each picture, float64 [b], where the metric has such; of the first, if not of all.
    """

    metric: str
    unit: str
    note: str
    evidence: Evidence
    values: npt.NDArray[np.float64] | None = None

    def as_row(self, confidence: float = CONFIDENCE) -> Measurement:
        """The row, with its interval."""
        count = "1 picture" if self.evidence.count == 1 else f"{self.evidence.count:g} pictures"
        note, interval = self.note.replace("{}", count), self.evidence.interval(confidence)
        return Measurement(self.metric, self.evidence.value, self.unit, note=note, interval=interval)


def sample_mean(metric: str, unit: str, note: str, values: npt.NDArray[np.float64]) -> Sampled:
    """The mean of a figure that each picture has."""
    return Sampled(metric, unit, note, Mean(values), values)
