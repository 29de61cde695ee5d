"""Intervals of figures of whole sets: of a mean they are what is known, and they hold what they say they hold."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.validate.confidence.jackknife import GROUPS, deal_groups, jackknife_interval
from sprint_export.validate.confidence.means import mean_interval


def test_pictures_are_dealt_in_turn() -> None:
    assert deal_groups(3).tolist() == [0, 1, 2]
    groups = deal_groups(GROUPS + 2)
    assert groups[[0, GROUPS, 1, GROUPS + 1]].tolist() == [0, 0, 1, 1]
    assert np.bincount(deal_groups(30_000)).tolist() == [938] * 16 + [937] * 16


def test_of_a_geometric_mean_it_is_the_interval_of_the_mean_of_logarithms() -> None:
    values = np.array([30.0, 32.0, 34.0, 36.0])
    without = np.exp([np.delete(np.log(values), i).mean() for i in range(4)])
    wanted = mean_interval(np.log(values), 0.99)  # of 95 %: five times as rarely missed
    assert wanted is not None
    assert jackknife_interval(float(np.exp(np.log(values).mean())), without) == pytest.approx(tuple(np.exp(wanted)))


def test_where_a_figure_is_zero_it_is_students_interval_and_not_below_zero() -> None:
    values = np.array([0.0, 0.0, 0.0, 4.0])
    without = np.array([np.delete(values, i).mean() for i in range(4)])
    assert jackknife_interval(1.0, without) == pytest.approx((0.0, 1 + 5.8409), rel=1e-4)


def test_what_is_no_number_and_one_group_say_nothing() -> None:
    assert jackknife_interval(0.1, None) is None
    assert jackknife_interval(0.1, np.array([0.1])) is None
    assert jackknife_interval(0.1, np.array([0.1, np.nan])) is None


def test_a_higher_confidence_is_a_wider_interval() -> None:
    without = np.random.default_rng(0).normal(9.0, 0.1, GROUPS)
    usual, sure = jackknife_interval(9.0, without), jackknife_interval(9.0, without, 0.99)
    assert usual is not None and sure is not None
    assert sure[0] < usual[0] < 9.0 < usual[1] < sure[1]
