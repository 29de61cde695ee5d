"""FID and CMMD without groups of pictures: what the metrics themselves give of the pictures that are left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.nouns.report import Gate
from sprint_export.validate.confidence.decisions import decide
from sprint_export.validate.confidence.jackknife import GROUPS, deal_groups, jackknife_interval
from sprint_export.validate.image_metrics.frechet_inception import frechet_distance
from sprint_export.validate.image_metrics.frechet_without import measure_without
from sprint_export.validate.image_metrics.mean_discrepancy import leave_groups, measure_discrepancy
from sprint_export.validate.image_metrics.measuring import make_row
from sprint_export.validate.image_metrics.metric import Scores

Features = npt.NDArray[np.float32]


def draw_features(count: int, width: int, apart: float = 0.3, seed: int = 0) -> tuple[Features, Features]:
    """Pairs: the exported ones are the reference's with noise, and moved."""
    rng = np.random.default_rng(seed)
    theirs = rng.normal(0.5, 1.0, (count, width)) * np.linspace(0.2, 1.5, width)
    ours = theirs + apart * rng.normal(size=theirs.shape) + apart / 4
    return ours.astype(np.float32), theirs.astype(np.float32)


@pytest.mark.parametrize(("count", "width"), [(12, 24), (70, 90), (90, 20), (33, 33)])
def test_fid_without_a_group_is_fid_of_the_others(count: int, width: int) -> None:
    ours, theirs = draw_features(count, width)
    found, groups = measure_without(ours, theirs), deal_groups(count)
    assert len(found) == min(count, GROUPS)
    for group in (0, len(found) - 1):
        wanted = frechet_distance(ours[groups != group], theirs[groups != group])
        assert found[group] == pytest.approx(wanted, rel=1e-5)


def test_features_that_never_vary_leave_fid_what_it_is() -> None:
    ours, theirs = draw_features(90, 20)
    ours[:, 3] = theirs[:, 3] = 0
    groups = deal_groups(90)
    assert measure_without(ours, theirs)[5] == pytest.approx(frechet_distance(ours[groups != 5], theirs[groups != 5]), rel=1e-5)


@pytest.mark.parametrize("count", [9, 70])
def test_cmmd_without_a_group_is_cmmd_of_the_others(count: int) -> None:
    ours, theirs = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in draw_features(count, 16))
    found, groups = leave_groups(ours, theirs), deal_groups(count)
    assert len(found) == min(count, GROUPS)
    for group in (0, len(found) - 1):
        wanted = measure_discrepancy(ours[groups != group], theirs[groups != group])
        assert found[group] == pytest.approx(wanted, rel=1e-9)


def test_equal_pictures_leave_nothing_open() -> None:
    _, theirs = draw_features(40, 60)
    assert jackknife_interval(0.0, measure_without(theirs, theirs)) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert jackknife_interval(0.0, leave_groups(theirs, theirs)) == (0.0, 0.0)


@pytest.mark.parametrize("width", [8, 96])
def test_the_interval_holds_what_as_many_pictures_give_on_average(width: int) -> None:
    """Of fewer and of more features than pictures; the truth is the mean over all trials."""
    trials = [draw_features(48, width, seed=seed) for seed in range(120)]
    values = [frechet_distance(*trial) for trial in trials]
    found = [jackknife_interval(value, measure_without(*trial)) for value, trial in zip(values, trials, strict=True)]
    held = np.mean([low <= np.mean(values) <= high for low, high in filter(None, found)])
    assert held >= 0.91, "95 %, less three deviations of so few trials"


def test_a_gate_on_a_set_may_be_not_decided() -> None:
    without = np.random.default_rng(0).normal(9.0, 0.1, GROUPS)
    row = make_row(Scores("fid", "", np.array([9.0]), "", "set", without), lambda values: None)
    assert row.interval is not None
    gates = {limit: Gate("fid", "<=", limit, "asked for") for limit in (5.0, 9.1, 15.0)}
    assert [decide(gate, row.value, row.interval) for gate in gates.values()] == ["not met", "not decided", "met"]
