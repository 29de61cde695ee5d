"""CMMD (Jayasumana et al. 2024, arXiv:2401.09603): the maximum mean discrepancy of CLIP's embeddings, which needs no normal law.

    1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),   k(u, v) = exp(-|u - v|^2 / (2 s^2)),   s = 10

over all pairs, x with x itself too (the estimate of least variance), of embeddings of length 1 by CLIP ViT-L/14 at 336 px. No
library that is kept has it: torchmetrics' kernel distance has a polynomial kernel of Inception's features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sprint_export.compute import Place
from sprint_export.validate.confidence.jackknife import deal_groups
from sprint_export.validate.image_metrics.clip_folder import EMBEDDING, Clip, find_clip_fault, open_clip
from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting
from sprint_export.validate.image_metrics.picture_sets import compare_sets, name_sets

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from sprint_export.validate.image_metrics.metric import Float64, UInt8
    from sprint_export.validate.image_metrics.picture_sets import Features
    from sprint_export.validate.rows import Rows

BANDWIDTH, SCALE = 10.0, 1000.0
AT_ONCE = 8  # pictures, each brought to 336 px
VALUES_AT_ONCE = 1 << 24  # of a kernel's matrix, 128 MB


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

        def describe(sets: Iterable[Rows]) -> Features:
            return embed_sets(clip, sets, place)

        return compare_sets(self.name, comparison, describe, measure_discrepancy, leave_groups)


def embed_sets(clip: Clip, sets: Iterable[Rows], place: Place) -> Features:
    """Embeddings float32 [B, E] of sets of pictures uint8 [b, H, W, 3], each of one size."""
    import torch

    found = []
    for pictures in sets:
        for start in range(0, len(pictures), AT_ONCE):

            def embed(chosen: UInt8 = pictures[start : start + AT_ONCE]) -> torch.Tensor:
                clip.model.to(place.compute.device)
                with torch.inference_mode(), place.compute.exact():
                    embedded: torch.Tensor = clip.embed_pictures(chosen, place.compute.device)
                    return embedded.float().cpu()

            found.append(place.attempt(embed, clip.model))
    return np.asarray(torch.cat(found).numpy(), np.float32)


def measure_discrepancy(ours: Features, theirs: Features) -> float:
    """The discrepancy of two sets of embeddings [B, E], in float64; what rounding leaves below 0 is 0."""
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    return max(0.0, SCALE * (_mean_kernel(first, first) + _mean_kernel(second, second) - 2 * _mean_kernel(first, second)))


def _mean_kernel(first: Float64, second: Float64) -> float:
    """k's mean over all pairs, some rows at a time."""
    total, at_once = 0.0, max(1, VALUES_AT_ONCE // len(second))
    for start in range(0, len(first), at_once):
        total += float(_find_kernel(first[start : start + at_once], second).sum())
    return total / (len(first) * len(second))


def _find_kernel(first: Float64, second: Float64) -> Float64:
    """k of all pairs, [B, C]."""
    distance = np.square(first).sum(1)[:, None] + np.square(second).sum(1)[None] - 2 * first @ second.T
    kernel: Float64 = np.exp(-distance / (2 * BANDWIDTH**2))
    return kernel


def leave_groups(ours: Features, theirs: Features) -> Float64:
    """The discrepancy [G] without the pictures of each group, from the kernel's sums over pairs of two groups."""
    groups = deal_groups(len(ours))
    sides, sizes = [side.astype(np.float64) for side in (ours, theirs)], np.bincount(groups)
    sums = np.zeros((len(sizes), len(sizes)))
    for left in range(len(sizes)):
        for right in range(len(sizes)):
            a, b, c, d = (side[groups == group] for group in (left, right) for side in sides)
            sums[left, right] = sum(sign * _find_kernel(*pair).sum() for sign, pair in ((1, (a, c)), (1, (b, d)), (-2, (a, d))))
    left_out = sums.sum() - sums.sum(0) - sums.sum(1) + np.diagonal(sums)
    without: Float64 = np.maximum(0.0, SCALE * left_out / np.square(len(ours) - sizes))
    return without


METRIC = MeanDiscrepancy(name="cmmd")
