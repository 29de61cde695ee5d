"""What the judges say of the drawn pictures: how many show what their prompts say, in both versions, and which changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sprint_export.nouns.report import Measurement
from sprint_export.students.judge import Judge, list_judges
from sprint_export.validate.confidence.evidence import Loss, Share
from sprint_export.validate.rows import Rows, map_rows, split_rows, walk_rows
from sprint_export.validate.sampled import Sampled

SHOWN, DROPPED, CHANGED = "adherence_percent", "adherence_drop_points", "flips"


@dataclass(frozen=True)
class Judged:
    """Of the drawn pictures: sampled rows, other rows, and for each picture the metrics on which the two versions differ."""

    samples: list[Sampled] = field(default_factory=list)
    rows: list[Measurement] = field(default_factory=list)
    flipped: Sequence[tuple[str, ...]] = ()


def judge_pictures(prompts: Sequence[str], exported: Rows, reference: Rows, is_steered: bool = False) -> Judged:
    """What the judge that knows these prompts and pictures, uint8 [B, H, W, 3], says; nothing where none does."""
    judge = find_judge(prompts, exported.shape[2])
    if judge is None:
        return Judged(flipped=[()] * len(prompts))
    ours, theirs = (list_right(judge, prompts, pictures) for pictures in (exported, reference))
    changed = map_rows(judge.list_changed, exported, reference)
    rows = [Measurement(CHANGED, float(changed.sum()), "pictures", note="that show something else than PyTorch float32's")]
    steered = judge.compare_controls(prompts, walk_rows(exported), walk_rows(reference)) if is_steered else []
    flipped = [
        tuple(name for name, differs in ((SHOWN, a != b), (CHANGED, c)) if differs)
        for a, b, c in zip(ours, theirs, changed, strict=True)
    ]
    return Judged(compare_rights(ours, theirs), rows + steered, flipped)


def list_right(judge: Judge, prompts: Sequence[str], pictures: Rows) -> npt.NDArray[np.bool_]:
    """Which pictures show all that their prompts say, bool [B]; some are read at a time."""
    parts = split_rows(pictures)
    return np.concatenate([judge.list_right(prompts[part], pictures[part]) for part in parts])


def find_judge(prompts: Sequence[str], side: int | None = None) -> Judge | None:
    """The one whose world these prompts, and pictures of this side in pixels, are of."""
    return next((judge for judge in list_judges() if judge.knows(prompts, side)), None)


def compare_rights(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> list[Sampled]:
    """Rates of two versions of the same prompts and noises, and of what the first lost, from bool [B] each."""
    lost, won, count = int((theirs & ~ours).sum()), int((ours & ~theirs).sum()), len(ours)
    right = "exported: everything in the caption right; {}"
    paired = f"reference minus exported: {lost} pictures lost, {won} won"
    return [
        Sampled(SHOWN, "%", right, Share(int(ours.sum()), count)),
        Sampled("adherence_reference_percent", "%", "PyTorch, same noise", Share(int(theirs.sum()), count)),
        Sampled(DROPPED, "points", paired, Loss(lost, won, count)),
    ]
