"""CLIP score (Hessel et al. 2021, arXiv:2104.08718): how near a picture's embedding is to its prompt's, 100 max(cos, 0).

torchmetrics computes it, picture by picture. Prompts longer than CLIP reads are cut, which the row says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sprint_export.compute import Compute, Place
from sprint_export.libraries import hush
from sprint_export.validate.image_metrics.clip_folder import SCORING, Clip, find_clip_fault, open_clip
from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting, compare_sides, name_sides
from sprint_export.validate.image_metrics.networks import TORCHMETRICS, find_library_fault

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import Float64, UInt8
    from sprint_export.validate.rows import Rows


class ClipScore(ImageMetric):
    """Of each side alone, and what the exported one loses."""

    title = f"CLIP score (Hessel et al. 2021) of {SCORING}"
    unit, better = "points", "higher"
    needs = f"a checkpoint of CLIP, {SCORING}"

    @property
    def rows(self) -> tuple[str, ...]:
        return name_sides(self.name)

    def find_fault(self, setting: Setting) -> str | None:
        return find_library_fault(TORCHMETRICS) or find_clip_fault(SCORING, setting)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        clip = open_clip(SCORING, setting)
        ours, theirs = (
            score_pictures(clip, pictures, comparison.prompts, setting.compute)
            for pictures in (comparison.exported, comparison.reference)
        )
        cut = clip.count_cut(comparison.prompts)
        note = self.title + (f"; {cut} prompts are longer than {clip.most_tokens} tokens and were cut" if cut else "")
        return compare_sides(self.name, self.unit, ours, theirs, note)


def score_pictures(clip: Clip, pictures: Rows, prompts: Sequence[str], compute: Compute) -> Float64:
    """The score [B] of each picture uint8 [B, H, W, 3] with its prompt."""
    import torch

    from sprint_export.validate.rows import walk_rows

    with hush():
        from torchmetrics.functional.multimodal import clip_score

    def cut(**asked: Any) -> Any:
        """The processor, its texts cut where its tokenizer says: torchmetrics alone cuts off their end mark, which CLIP reads."""
        return clip.processor(**asked, **({"truncation": True} if "text" in asked else {}))

    place, found = Place(compute, ClipScore.title), []
    for picture, prompt in zip(walk_rows(pictures), prompts, strict=True):

        def score(picture: UInt8 = picture, prompt: str = prompt) -> float:
            with torch.inference_mode(), place.compute.exact(), hush():
                tensor = place.compute.place(torch.from_numpy(picture).permute(2, 0, 1))
                return float(clip_score(tensor, prompt, lambda: (clip.model, cut)))

        found.append(place.attempt(score, clip.model))
    return np.array(found, np.float64)


METRIC = ClipScore(name="clip_score")
