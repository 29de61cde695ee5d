"""What is left of a run: expected seconds of its stages, corrected by those that are done.

    left = left of the stage that runs  +  r x expected seconds of those behind it        r = taken / expected of finished stages
A stage's own speed tells more than any estimate, from its first finished step on; before that its expected seconds less those
that have passed are said. A stage that was passed over (kept from an earlier run) counts as finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sprint_export.progress import Step

TRUSTED_S = 5.0  # of finished stages that correct the others; seconds of less say little about this machine


@dataclass
class RunTime:
    """The stages of a run in order, as `(step, expected seconds)`; networks of a stage that is told without them are one.

    `now` is the stage that runs.
    """

    expected: Sequence[tuple[Step, float]] = ()
    now: Step | None = None
    _begun: dict[Step, float] = field(default_factory=dict)
    _place: int = 0  # of the first stage behind the one that runs
    _taken: float = 0.0
    _planned: float = 0.0

    def tell(self, step: Step, now: float) -> None:
        """A step was reported at this time, in seconds of a clock."""
        if step in self._begun:
            return
        if self.now is not None and (planned := self.find(self.now)):
            self._taken += now - self._begun[self.now]
            self._planned += planned
        self.now, self._begun[step] = step, now
        rows = [i for i, (each, _) in enumerate(self.expected) if _is_part(each, step)]
        self._place = max([self._place, *(i + 1 for i in rows)])

    def find(self, step: Step) -> float:
        """Expected seconds of a stage as it is told; 0 where none are known."""
        return sum(seconds for each, seconds in self.expected if _is_part(each, step))

    def left_of(self, step: Step, now: float) -> float:
        """Of a stage that runs, by the estimate."""
        return max(0.0, self._correct(self.find(step)) - (now - self._begun.get(step, now)))

    def left_behind(self) -> float:
        """Of all stages behind the one that runs."""
        return self._correct(sum(seconds for _, seconds in self.expected[self._place :]))

    def _correct(self, seconds: float) -> float:
        return seconds * (self._taken / self._planned if self._planned > TRUSTED_S else 1.0)


def _is_part(row: Step, told: Step) -> bool:
    return (row.stage, row.target) == (told.stage, told.target) and told.detail in ("", row.detail)
