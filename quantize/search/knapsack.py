"""One option a unit under one budget, with the least sum of errors: the multiple-choice knapsack problem, solved on a grid.

    least[u, c] = min over options o of least[u - 1, c - cells(u, o)] + error(u, o)
What an option costs beyond the unit's cheapest is rounded up to whole cells, so a choice never exceeds the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CELLS = 1 << 16  # of the range between smallest and largest: 0.002 % of it each


class Knapsack:
    """All budgets at once, over units with options (cost, error), costs whole numbers.

    `smallest` and `largest` are the costs of the cheapest and of the dearest choice; `least[c]` is the least error with
    a cost of `smallest + c * cell`.
    """

    def __init__(self, units: Sequence[Sequence[tuple[int, float]]]) -> None:
        self.smallest = sum(min(size for size, _ in unit) for unit in units)
        self.largest = sum(max(size for size, _ in unit) for unit in units)
        self.cell = max(1, math.ceil((self.largest - self.smallest) / CELLS))
        self._cells = [[math.ceil((size - min(unit)[0]) / self.cell) for size, _ in unit] for unit in units]
        last = sum(max(cells) for cells in self._cells)
        self.least = np.zeros(last + 1)
        self._picks = np.zeros((len(units), last + 1), np.uint8)
        for unit, cells, picks in zip(units, self._cells, self._picks, strict=True):
            tried = np.full((len(unit), last + 1), np.inf)
            for row, count, (_, error) in zip(tried, cells, unit, strict=True):
                row[count:] = self.least[: last + 1 - count] + error
            picks[:] = tried.argmin(axis=0)  # of equals the first
            self.least = tried.min(axis=0)

    def choose(self, budget: int) -> list[int]:
        """The option of every unit, for at most `budget`; the budget is at least `smallest`."""
        last = len(self.least) - 1
        # where everything fits, rounding up to cells must not say otherwise
        at = last if budget >= self.largest else min((budget - self.smallest) // self.cell, last)
        chosen = []
        for cells, picks in zip(reversed(self._cells), reversed(self._picks), strict=True):
            pick = int(picks[at])
            chosen.append(pick)
            at -= cells[pick]
        return chosen[::-1]
