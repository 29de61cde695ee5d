"""Distances of whole sets of pictures: the exported ones to PyTorch's, and both to the pictures that came with the prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from sprint_export.validate.image_metrics.metric import Comparison, Scores
from sprint_export.validate.image_metrics.originals import read_originals

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import Float64
    from sprint_export.validate.rows import Rows

    Describe = Callable[[Iterable[Rows]], Float64]  # sets of pictures uint8 [b, H, W, 3] -> features [B, F]
    Distance = Callable[[Float64, Float64], float]


def name_sets(name: str) -> tuple[str, str, str]:
    """Rows of a distance of sets; the last two where the prompts came with pictures."""
    return name, f"{name}_originals", f"{name}_originals_reference"


def compare_sets(name: str, comparison: Comparison, describe: Describe, distance: Distance) -> list[Scores]:
    """Those rows of a comparison."""
    ours, theirs = (describe([side]) for side in (comparison.exported, comparison.reference))
    pairs = [(ours, theirs, f"exported pictures vs PyTorch float32's, {len(ours)} each")]
    if comparison.originals:
        wanted = describe(read_originals(comparison))
        beside = f"the {len(wanted)} pictures that came with the prompts"
        pairs += [(ours, wanted, f"exported pictures vs {beside}"), (theirs, wanted, f"PyTorch float32's vs {beside}")]
    return [
        Scores(row, "", np.array([distance(first, second)]), note, "set")
        for row, (first, second, note) in zip(name_sets(name), pairs, strict=False)
    ]
