"""Verdicts of intervals, and the number of pictures that would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sprint_export.nouns.report import Gate, Verdict
from sprint_export.validate.confidence.decisions import count_needed, decide, is_reachable, weigh
from sprint_export.validate.confidence.evidence import Loss, Mean, Share

AT_LEAST, BELOW = Gate("psnr_db", ">=", 30, "why"), Gate("psnr_db", "<", 30, "why")
DROP = Gate("adherence_drop_points", "<=", 3, "why")


@pytest.mark.parametrize(
    ("value", "interval", "verdict", "other"),
    [
        (33.0, (30.0, 36.0), "met", "not met"),
        (33.0, (29.9, 36.0), "not decided", "not decided"),
        (29.0, (28.0, 30.0), "not decided", "not decided"),
        (29.0, (28.0, 29.9), "not met", "met"),
        (30.0, None, "met", "not met"),
        (29.0, None, "not met", "met"),
        (math.nan, None, "not met", "not met"),
    ],
)
def test_an_interval_decides_where_its_limit_is_outside(
    value: float, interval: tuple[float, float] | None, verdict: Verdict, other: Verdict
) -> None:
    assert decide(AT_LEAST, value, interval) == verdict
    assert decide(BELOW, value, interval) == other


def test_one_picture_can_fail_a_mean_and_cannot_meet_it() -> None:
    assert weigh(AT_LEAST, Mean(np.array([29.0]))) == "not met"
    assert weigh(AT_LEAST, Mean(np.array([50.0]))) == "not decided"
    assert not is_reachable(AT_LEAST, Mean(np.array([50.0])), 1)
    assert is_reachable(AT_LEAST, Mean(np.array([50.0, 51.0])), 2)
    assert count_needed(AT_LEAST, Mean(np.array([50.0]))) is None


@pytest.mark.parametrize("sample", [Loss(0, 0, 64), Loss(2, 1, 64), Loss(9, 2, 64), Share(60, 64)])
def test_as_many_as_needed_decide_and_one_fewer_does_not(sample: Loss | Share) -> None:
    gate = DROP if isinstance(sample, Loss) else Gate("adherence_percent", ">=", 90, "why")
    assert weigh(gate, sample) == "not decided"
    needed = count_needed(gate, sample)
    assert needed is not None
    print(sample, needed)
    assert weigh(gate, sample.grow(needed)) != "not decided"
    assert weigh(gate, sample.grow(needed - 1)) == "not decided"


def test_a_mean_needs_the_square_of_its_interval_over_its_distance() -> None:
    values = np.array([31.0, 33.0, 29.0, 35.0])  # mean 32, 3.1824 * 1.29099 = 4.11 either side
    assert count_needed(AT_LEAST, Mean(values)) == math.ceil(4 * (4.1084 / 2) ** 2)


def test_what_is_its_very_limit_no_number_decides() -> None:
    assert count_needed(Gate("psnr_db", ">", 30, "why"), Mean(np.array([29.0, 31.0, 28.0, 32.0]))) is None


def test_a_loss_of_3_points_cannot_be_ruled_out_by_64_pictures_and_can_by_128() -> None:
    assert not is_reachable(DROP, Loss(1, 0, 64), 64)
    assert is_reachable(DROP, Loss(1, 0, 64), 128)
    assert count_needed(DROP, Loss(0, 0, 64)) == 125
