"""What a weight takes in a file, and which precisions fit a budget with the least error.

    palette   values bits / 8  +  groups 2^bits 2          integers   values bits / 8  +  scales 2          float   values 2
Choosing one precision a layer under one budget is the multiple-choice knapsack problem; on a grid of bytes it is solved exactly:
    least[u, c] = min over precisions p of least[u - 1, c - cells(u, p)] + error(u, p)
What a precision takes beyond the layer's smallest is rounded up to whole cells, so a choice never exceeds the budget.
Not counted: file headers and graphs; a format's padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sprint_export.schema import QuantizedLayer, Student

FLOAT_BYTES = 2  # everything that is not quantized, and tables and scales
CELLS = 1 << 16  # of the range between smallest and largest: 0.002 % of it each


def layer_bytes(shape: Sequence[int], how: QuantizedLayer | None) -> int:
    """Bytes of a weight [out, in, ...] with its tables or scales; None is 16-bit float."""
    values, rows = math.prod(shape), shape[0]
    if how is None:
        return values * FLOAT_BYTES
    if how.precision.is_palette:
        extras: int = (rows // how.group if how.group else 1) * 2**how.precision.bits
    else:
        extras = 1 if how.weight_axis is None else rows * (shape[1] // how.group if how.group else 1)
    return -(-values * how.precision.bits // 8) + extras * FLOAT_BYTES


def student_bytes(student: Student, layers: Mapping[str, QuantizedLayer]) -> int:
    """Bytes of all weights, with these layers (by `role.module`) rounded and everything else in 16 bits."""
    return sum(
        layer_bytes(handle.shape, layers.get(f"{role}.{name.removesuffix('.weight')}") if name.endswith(".weight") else None)
        for role, component in student.components.items()
        for name, handle in component.weights.items()
    )


class Knapsack:
    """All budgets at once, over units with options (bytes, error).

    `smallest` and `largest` are the bytes of the cheapest and of the dearest choice; `least[c]` is the least error with
    `smallest + c * cell` bytes.
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
        """The option of every unit, with at most `budget` bytes; the budget is at least `smallest`."""
        last = len(self.least) - 1
        # where everything fits, rounding up to cells must not say otherwise
        at = last if budget >= self.largest else min((budget - self.smallest) // self.cell, last)
        chosen = []
        for cells, picks in zip(reversed(self._cells), reversed(self._picks), strict=True):
            pick = int(picks[at])
            chosen.append(pick)
            at -= cells[pick]
        return chosen[::-1]
