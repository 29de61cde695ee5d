"""Distances of whole sets of pictures: the exported ones to PyTorch's, and both to the pictures that came with the prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from sprint_export.validate.image_metrics.metric import Comparison, Scores
from sprint_export.validate.image_metrics.originals import read_originals

if TYPE_CHECKING:
    import numpy.typing as npt

    from sprint_export.validate.image_metrics.metric import Float64
    from sprint_export.validate.rows import Rows

    Features = npt.NDArray[np.float32] | Float64
    Describe = Callable[[Iterable[Rows]], Features]  # sets of pictures uint8 [b, H, W, 3] -> features [B, F]
    Distance = Callable[[Features, Features], float]
    Without = Callable[[Features, Features], Float64]  # distances [G] without the pictures of each group


FEWEST = 2  # pictures, of which one can be left out


def name_sets(name: str) -> tuple[str, str, str]:
    """Rows of a distance of sets; the last two where the prompts came with pictures."""
    return name, f"{name}_originals", f"{name}_originals_reference"


def compare_sets(name: str, comparison: Comparison, describe: Describe, distance: Distance, without: Without) -> list[Scores]:
    """Those rows of a comparison; of one picture, or of other counts of pictures on both sides, without an interval."""
    ours, theirs = (describe([side]) for side in (comparison.exported, comparison.reference))
    pairs = [(ours, theirs, f"exported pictures vs PyTorch float32's, {len(ours)} each")]
    if comparison.originals:
        wanted = describe(read_originals(comparison))
        beside = f"the {len(wanted)} pictures that came with the prompts"
        pairs += [(ours, wanted, f"exported pictures vs {beside}"), (theirs, wanted, f"PyTorch float32's vs {beside}")]
    return [
        Scores(
            row,
            "",
            np.array([distance(first, second)]),
            f"{note}; interval: where {len(first)} pictures lie on average",
            "set",
            without(first, second) if len(first) == len(second) > FEWEST else None,
        )
        for row, (first, second, note) in zip(name_sets(name), pairs, strict=False)
    ]
