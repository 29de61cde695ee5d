"""Looking at a sample while it grows, with a chance of being wrong that holds over all looks together.

Who looks again and again and stops when pleased is pleased too often. So each look has a part of ALPHA of its own, and its
intervals are the wider for it; their sum is ALPHA, hence the chance that any of them misses the truth is at most ALPHA, whatever
is measured and however the looks depend on each other (Bonferroni's bound on alpha spending, Lan and DeMets 1983, spent in
proportion to the pictures). What is left is spent at the last look, which is the last because the pictures or the time are over:
neither depends on what the pictures show.
"""

from __future__ import annotations

from dataclasses import dataclass

ALPHA = 0.05  # that an interval, at whichever look it is reported, misses the value over all prompts


@dataclass
class Looks:
    """The looks of one validation at its pictures, of which there are at most `most`."""

    most: int
    alpha: float = ALPHA
    _before: float = 0.0  # spent at earlier looks
    _spent: float = 0.0  # with this one

    def look(self, count: int) -> float:
        """The confidence of intervals at a look after `count` pictures that may be followed by others."""
        self._before, self._spent = self._spent, max(self._spent, self.alpha * min(1.0, count / self.most))
        return 1 - (self._spent - self._before)

    def look_last(self) -> float:
        """That of the look just taken, where it turns out to be the last."""
        return 1 - (self.alpha - self._before)
