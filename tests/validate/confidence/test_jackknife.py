"""Intervals of figures of whole sets: of a mean they are what is known, and they hold what they say they hold."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.validate.confidence.jackknife import GROUPS, deal_groups, jackknife_interval


def test_pictures_are_dealt_in_turn() -> None:
    assert deal_groups(3).tolist() == [0, 1, 2]
    groups = deal_groups(GROUPS + 2)
    assert groups[[0, GROUPS, 1, GROUPS + 1]].tolist() == [0, 0, 1, 1]
    assert np.bincount(deal_groups(30_000)).tolist() == [938] * 16 + [937] * 16


def test_of_a_mean_of_single_values_it_is_students_interval() -> None:
    values = np.array([30.0, 32.0, 34.0, 36.0])
    without = np.array([np.delete(values, i).mean() for i in range(4)])
    assert jackknife_interval(33.0, without) == pytest.approx((33 - 3.1824 * 1.29099, 33 + 3.1824 * 1.29099), rel=1e-4)


def test_no_figure_lies_below_zero_and_one_group_says_nothing() -> None:
    found = jackknife_interval(0.1, np.array([0.0, 0.3]))
    assert found is not None and found[0] == 0.0
    assert jackknife_interval(0.1, None) is None
    assert jackknife_interval(0.1, np.array([0.1])) is None
    assert jackknife_interval(0.1, np.array([0.1, np.nan])) is None


def test_a_higher_confidence_is_a_wider_interval() -> None:
    without = np.random.default_rng(0).normal(9.0, 0.1, GROUPS)
    usual, sure = jackknife_interval(9.0, without), jackknife_interval(9.0, without, 0.99)
    assert usual is not None and sure is not None
    assert sure[0] < usual[0] < 9.0 < usual[1] < sure[1]
