"""TwinFlow on SANA: told by the second time embedder, with TwinFlow's times, and refused where it is no whole student."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sprint_export.errors import RefusedError
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.two_times import TwoTimes
from sprint_export.students.twinflow_sana.family import FAMILY
from tests.students.contract import check_drawing


@pytest.mark.parametrize("steps", [2, 4])
def test_it_draws_what_the_released_sampler_draws(steps: int) -> None:
    check_drawing(FAMILY, steps)


def test_time_and_its_target_are_embedded_together() -> None:
    """c(t, t') = E1(t) + (t - t') E2(t'), for rows and embedded time alike; t' is 0 where one time is given."""
    torch.manual_seed(0)
    times = TwoTimes(8, 2.0)
    given = {"batch_size": 2, "hidden_dtype": torch.float32}
    t, target = torch.tensor([1.0, -0.5]), torch.tensor([0.25, -0.5])
    first = super(TwoTimes, times).forward(2 * t, **given)
    second = times.second(2 * target, **given)
    for found, a, b in zip(times(torch.stack((t, target), 1), **given), first, second, strict=True):
        assert torch.equal(found, a + (t - target)[:, None] * b)
    for found, wanted in zip(times(t, **given), times(torch.stack((t, 0 * t), 1), **given), strict=True):
        assert torch.equal(found, wanted)


def test_the_released_constants_are_the_plan() -> None:
    plan = specialize_student(FAMILY.tiny(), (1, 2)).plan
    assert plan is not None
    assert (plan.times, plan.dtype, plan.starts_from_noise, plan.guidance) == ((1.0, 1.0, 0.6015625), "bfloat16", True, 0.0)


def test_it_starts_from_noise_only() -> None:
    for change in (FAMILY.add_encoder, lambda student: FAMILY.add_controlnet(student, Path("x"))):
        with pytest.raises(RefusedError, match="twinflow_sana"):
            change(FAMILY.tiny())
