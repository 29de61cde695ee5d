"""Looking while the sample grows: a bundle at its very limit passes in at most 5 of 100 validations, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.nouns.report import Gate
from sprint_export.validate.confidence import means
from sprint_export.validate.confidence.looks import ALPHA, Looks
from sprint_export.validate.pace import LOOKS
from tests.validate.confidence.simulation import draw_losses, draw_means, run_trials, share

DOUBLING = (4, 8, 16, 32, 64)
DROP, PSNR = Gate("adherence_drop_points", "<=", 3, "why"), Gate("psnr_db", ">=", 30, "why")


@pytest.mark.parametrize("counts", [LOOKS, DOUBLING, (7,)])
@pytest.mark.parametrize("ends", [1, 2, 9])
def test_what_the_looks_spend_is_alpha_together_wherever_they_end(counts: tuple[int, ...], ends: int) -> None:
    looks = Looks(counts[-1])
    confidences = [looks.look(count) for count in counts[:ends]]
    spent = [1 - each for each in [*confidences[:-1], looks.look_last()]]
    assert sum(spent) == pytest.approx(ALPHA)
    assert all(each > 0 for each in spent)
    if len(confidences) == len(counts):
        assert looks.look_last() == pytest.approx(confidences[-1]), "all pictures: the last look is the one just taken"


def test_one_look_is_a_plain_95_percent_interval() -> None:
    assert Looks(64).look(64) == pytest.approx(0.95)


@pytest.mark.parametrize(("lost", "won"), [(0.03, 0.0), (0.04, 0.01)])
def test_a_loss_at_its_limit_seldom_passes(lost: float, won: float) -> None:
    ended = run_trials(draw_losses(lost, won, LOOKS[-1]), DROP, LOOKS, 400)
    assert share(ended, "met") <= 0.04, "0.025 at most is true; 400 trials add at most 0.015"
    assert share(ended, "not met") <= 0.04


def test_without_the_correction_it_would_pass_oftener_than_with_it() -> None:
    draw = draw_losses(0.04, 0.01, 64)
    plain, corrected = (
        share(run_trials(draw, DROP, (16, 24, 32, 40, 48, 56, 64), 400, each), "not met") for each in (False, True)
    )
    assert plain > 0.04 > corrected


def test_a_mean_at_its_limit_seldom_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "RESAMPLES", 199)
    draw = draw_means(lambda rng, count: rng.normal(30, 3, count), DOUBLING[-1])
    ended = run_trials(draw, PSNR, DOUBLING, 300)
    assert share(ended, "met") <= 0.045
    assert share(ended, "not decided") >= 0.9


def test_what_is_clear_is_decided_at_the_first_look() -> None:
    good = run_trials(draw_means(lambda rng, count: rng.normal(48, 2, count), 64), PSNR, DOUBLING, 50)
    assert np.mean([each.pictures for each in good]) < 6
    assert share(good, "met") == 1
    same = run_trials(draw_losses(0.0, 0.0, LOOKS[-1]), DROP, LOOKS, 3)
    assert [(each.verdict, each.pictures) for each in same] == [("met", 320)] * 3
    broken = run_trials(draw_losses(0.5, 0.0, LOOKS[-1]), DROP, LOOKS, 20)
    assert [(each.verdict, each.pictures) for each in broken] == [("not met", 64)] * 20
