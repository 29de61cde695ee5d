"""What a judge says of two versions of the same captions and noises: shares, what was lost, and which pictures changed."""

from __future__ import annotations

import numpy as np

from sprint_export.students.sprint_tiny.judge import JUDGE
from sprint_export.students.sprint_tiny.world import read_caption, render_scene
from sprint_export.validate.confidence.rates import paired_interval, wilson_interval
from sprint_export.validate.judging import judge_pictures

CAPTION, OTHER = "a small red circle above a large blue square", "a small red circle above a large green square"
THIRD = "a small red circle above a large yellow square"


def test_lost_and_won_pictures_are_counted_in_pairs() -> None:
    right, wrong, third = (render_scene(read_caption(each), np.random.default_rng(0)) for each in (CAPTION, OTHER, THIRD))
    exported, reference = np.stack([right, wrong, wrong, right, third]), np.stack([right, right, right, wrong, wrong])
    found = judge_pictures([CAPTION] * 5, exported, reference)
    rows = {each.metric: each.as_row() for each in found.samples} | {row.metric: row for row in found.rows}
    assert tuple(sorted(rows)) == tuple(sorted(name for name in JUDGE.metrics if "edges" not in name))
    drop = rows["adherence_drop_points"]
    assert (drop.value, drop.note) == (20, "reference minus exported: 2 pictures lost, 1 won")
    assert drop.interval == paired_interval(2, 1, 5)
    assert (rows["adherence_percent"].value, rows["adherence_percent"].interval) == (40, wilson_interval(2, 5))
    assert rows["adherence_percent"].note.endswith("; 5 pictures")
    assert rows["flips"].value == 4
    both = ("adherence_percent", "flips")
    assert list(found.flipped) == [(), both, both, both, ("flips",)], "wrong in both, and not in the same way"


def test_what_no_judge_knows_is_judged_by_none() -> None:
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    found = judge_pictures(["a dog", "a cat"], pictures, pictures)
    assert (found.samples, found.rows, list(found.flipped)) == ([], [], [(), ()])
