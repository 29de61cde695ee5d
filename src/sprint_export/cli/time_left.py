"""What is left of a run: expected seconds of its stages, corrected by those that are done.

    left = left of the stage that runs  +  r x expected seconds of those behind it        r = taken / expected of finished stages
A stage's own speed tells more than any estimate, from its first finished step on; before that its expected seconds less those
that have passed are said. A stage that was passed over (kept from an earlier run) counts as finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sprint_export.progress import Step

TRUSTED_S = 5.0  # of finished stages that correct the others; seconds of less say little about this machine


@dataclass
class RunTime:
    """The stages of a run in order, as `(step, expected seconds)`, a network's part each or whole; `now` is the one that runs.

    A stage is told whole, or by parts. Those that the estimate has not are all the same stage to it.
    """

    expected: Sequence[tuple[Step, float]] = ()
    now: Step | None = None
    _begun: dict[Step, float] = field(default_factory=dict)
    _place: int = 0  # of the first stage behind the one that runs
    _taken: float = 0.0
    _planned: float = 0.0

    def tell(self, step: Step, now: float) -> None:
        """A step was reported at this time, in seconds of a clock."""
        step = self.name(step)
        if step in self._begun:
            return
        if self.now is not None and (planned := self._sum(self.now)):
            self._taken += now - self._begun[self.now]
            self._planned += planned
        self.now, self._begun[step] = step, now
        rows = [i for i, (each, _) in enumerate(self.expected) if _is_part(each, step)]
        self._place = max([self._place, *(i + 1 for i in rows)])

    def name(self, step: Step) -> Step:
        """The step as the estimate knows it: by its part, or whole."""
        return step if any(each == step for each, _ in self.expected) else replace(step, detail="")

    def left_of(self, step: Step, now: float) -> float:
        """Of a stage that runs, by the estimate; 0 where there is none."""
        step = self.name(step)
        return max(0.0, self._correct(self._sum(step)) - (now - self._begun.get(step, now)))

    def left_behind(self) -> float:
        """Of all stages behind the one that runs."""
        return self._correct(sum(seconds for _, seconds in self.expected[self._place :]))

    def _sum(self, step: Step) -> float:
        return sum(seconds for each, seconds in self.expected if _is_part(each, step))

    def _correct(self, seconds: float) -> float:
        return seconds * (self._taken / self._planned if self._planned > TRUSTED_S else 1.0)


def _is_part(row: Step, named: Step) -> bool:
    return row == named or (row.stage, row.target, named.detail) == (named.stage, named.target, "")
