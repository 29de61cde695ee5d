"""CMMD (Jayasumana et al. 2024, arXiv:2401.09603): the maximum mean discrepancy of CLIP's embeddings, which needs no normal law.

    1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),   k(u, v) = exp(-|u - v|^2 / (2 s^2)),   s = 10

over all pairs, x with x itself too (the estimate of least variance), of embeddings of length 1 by CLIP ViT-L/14 at 336 px. No
library that is kept has it: torchmetrics' kernel distance has a polynomial kernel of Inception's features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sprint_export.compute import Place
from sprint_export.validate.image_metrics.clip_folder import EMBEDDING, Clip, find_clip_fault, open_clip
from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting
from sprint_export.validate.image_metrics.picture_sets import compare_sets, name_sets

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from sprint_export.validate.image_metrics.metric import Float64, UInt8
    from sprint_export.validate.rows import Rows

BANDWIDTH, SCALE = 10.0, 1000.0
AT_ONCE = 8  # pictures, each brought to 336 px
ROWS_AT_ONCE = 4096  # of a kernel's matrix


class MeanDiscrepancy(ImageMetric):
    """One value of all pictures."""

    title = f"CLIP maximum mean discrepancy (Jayasumana et al. 2024) of {EMBEDDING}"
    unit, better = "", "lower"
    needs = f"a checkpoint of CLIP, {EMBEDDING}"

    @property
    def rows(self) -> tuple[str, ...]:
        return name_sets(self.name)

    def find_fault(self, setting: Setting) -> str | None:
        return find_clip_fault(EMBEDDING, setting)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        clip = open_clip(EMBEDDING, setting)
        place = Place(setting.compute, self.title)
        return compare_sets(self.name, comparison, lambda sets: embed_sets(clip, sets, place), measure_discrepancy)


def embed_sets(clip: Clip, sets: Iterable[Rows], place: Place) -> Float64:
    """Embeddings float64 [B, E] of sets of pictures uint8 [b, H, W, 3], each of one size."""
    import torch

    found = []
    for pictures in sets:
        for start in range(0, len(pictures), AT_ONCE):

            def embed(chosen: UInt8 = pictures[start : start + AT_ONCE]) -> torch.Tensor:
                clip.model.to(place.compute.device)
                with torch.inference_mode(), place.compute.exact():
                    embedded: torch.Tensor = clip.embed_pictures(chosen, place.compute.device)
                    return embedded.double().cpu()

            found.append(place.attempt(embed, clip.model))
    return np.asarray(torch.cat(found).numpy(), np.float64)


def measure_discrepancy(ours: Float64, theirs: Float64) -> float:
    """The discrepancy of two sets of embeddings float64 [B, E]; what rounding leaves below 0 is 0."""
    return max(0.0, SCALE * (_mean_kernel(ours, ours) + _mean_kernel(theirs, theirs) - 2 * _mean_kernel(ours, theirs)))


def _mean_kernel(first: Float64, second: Float64) -> float:
    """k's mean over all pairs, some rows at a time."""
    total = 0.0
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = first[start : start + ROWS_AT_ONCE]
        distance = np.square(rows).sum(1)[:, None] + np.square(second).sum(1)[None] - 2 * rows @ second.T
        total += float(np.exp(-distance / (2 * BANDWIDTH**2)).sum())
    return total / (len(first) * len(second))


METRIC = MeanDiscrepancy(name="cmmd")
