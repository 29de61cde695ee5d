"""TwinFlow's times are those of the released grid, computed here in torch as UnifiedSampler does, and the start is the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.sampler import sample
from sprint_export.students.twinflow_times import SCHEDULES, twinflow_times

GAPS = {1: (0.001, 0.5), 2: (0.001, 0.6), 3: (0.001, 0.5), 4: (0.001, 0.5)}  # rfba_gap_steps of the README, but for 1 and 3


@pytest.mark.parametrize("steps", GAPS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_times_are_those_of_the_released_grid(steps: int, dtype: str) -> None:
    first, last = GAPS[steps]
    grid = torch.linspace(first, 1 - last, steps, dtype=torch.float64).to(getattr(torch, dtype))
    assert twinflow_times(steps, dtype) == pytest.approx((1 - grid).tolist(), abs=0 if dtype == "bfloat16" else 1e-7)


def test_schedules_with_a_name_are_the_others() -> None:
    assert SCHEDULES["few"].times == (1.0, 0.69921875)
    assert SCHEDULES["float32-2"].times == pytest.approx((0.999, 0.6))
    assert set(SCHEDULES) == {"few", "float32-1", "float32-2", "float32-4"}


def test_other_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"steps=5: distilled students take 1 to 4 steps"):
        twinflow_times(5)


def test_the_first_state_is_the_noise_itself() -> None:
    times = twinflow_times(2, "float32")
    noise = np.random.default_rng(0).standard_normal((2, 1, 4))
    found = sample(lambda x, _: x / 2, list(noise), times, starts_from_noise=True)
    np.testing.assert_array_equal(found, ((1 - times[1]) * noise[0] / 2 + times[1] * noise[1]) / 2)
    assert not np.allclose(found, sample(lambda x, _: x / 2, list(noise), times), rtol=1e-5), "0.999 of it is another start"
