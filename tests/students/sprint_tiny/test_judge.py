"""How sure the drop of adherence is: both versions draw the same captions from the same noise."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.students.sprint_tiny.judge import JUDGE, paired_interval
from sprint_export.students.sprint_tiny.world import read_caption, render_scene

CAPTION, OTHER = "a small red circle above a large blue square", "a small red circle above a large green square"


def test_lost_and_won_pictures_are_counted_in_pairs() -> None:
    right, wrong = (render_scene(read_caption(caption), np.random.default_rng(0)) for caption in (CAPTION, OTHER))
    exported, reference = np.stack([right, wrong, wrong, right]), np.stack([right, right, right, wrong])
    row = {row.metric: row for row in JUDGE.compare([CAPTION] * 4, exported, reference)}["adherence_drop_points"]
    assert row.value == 25
    assert row.note == "reference minus exported: 2 pictures lost, 1 won"
    assert row.interval == paired_interval(2, 1, 4)


@pytest.mark.parametrize(("lost", "won", "count", "wanted"), [(0, 0, 64, (-2.97, 2.97)), (12, 2, 2048, (0.12, 0.86))])
def test_the_interval_of_a_few_pairs(lost: int, won: int, count: int, wanted: tuple[float, float]) -> None:
    low, high = paired_interval(lost, won, count)
    assert (round(low, 2), round(high, 2)) == wanted


@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.002), (0.004, 0.004), (0.03, 0.01)])
def test_it_holds_the_truth_in_95_of_100_draws(lost: float, won: float) -> None:
    count, draws = 2048, 2000
    tables = np.random.default_rng(0).multinomial(count, (lost, won, 1 - lost - won), draws)
    intervals = [paired_interval(int(a), int(b), count) for a, b, _ in tables]
    share = np.mean([low <= 100 * (lost - won) <= high for low, high in intervals])
    assert 0.935 <= share <= 0.985, "2,000 draws tell 95 % to within one point"
