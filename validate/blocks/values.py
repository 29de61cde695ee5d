"""One block's value on its sides: as the exported graph holds it, and as torch gives it, [positions, channels] each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sprint_export.validate.blocks.layout import Array, Layout, arrange_torch


@dataclass
class Value:
    """One block's value: how the graph may hold it, and what is there of it so far, [positions, channels] each.

    `exported` has one matrix for each layout until float32's value says which it is.
    """

    layouts: list[Layout]
    exported: list[Array]
    positions: Array | None = None
    count: int = 0  # of positions, those that are not taken among them; 0: all are
    wanted: Array | None = None
    rounded: Array | None = None

    def leave_out(self, spare: int) -> None:
        """Leave the last `spare` positions of all out: of a text, padding that nobody reads."""
        assert self.wanted is not None and self.rounded is not None
        positions = np.arange(len(self.wanted)) if self.positions is None else self.positions
        kept = positions < (self.count or len(self.wanted)) - spare
        self.exported, self.wanted, self.rounded = [self.exported[0][kept]], self.wanted[kept], self.rounded[kept]

    def take_wanted(self, value: Array) -> None:
        """Choose the layout in which the graph's value is nearest."""
        matrix, errors = arrange_torch(value), []
        for layout, found in zip(self.layouts, self.exported, strict=True):
            difference = found - matrix[layout.list_positions()]
            errors.append(float(np.nan_to_num(np.square(difference, dtype=np.float64).mean(), nan=np.inf)))
        best = int(np.argmin(errors))
        self.positions = self.layouts[best].list_positions()
        self.layouts, self.exported = [self.layouts[best]], [self.exported[best]]
        self.count, self.wanted = len(matrix), matrix[self.positions]

    def take_rounded(self, value: Array) -> None:
        """Keep the same positions."""
        self.rounded = arrange_torch(value)[self.positions]
