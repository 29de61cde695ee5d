"""The one sampler against diffusers' SCMScheduler, and its limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import SCMScheduler
from diffusers.schedulers import scheduling_scm

from sprint_export.errors import InputError
from sprint_export.sampler import sample
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP, MAX_TIMESTEP, trigflow_times

TOLERANCE = 1e-5  # float32 sines on either side


def velocity(x: torch.Tensor, s: float) -> torch.Tensor:
    """Any smooth function that depends on both."""
    return torch.tanh(x.flip(-1) * (1 + s)) - s * x + 0.3


def run_scheduler(noise: torch.Tensor, patch: pytest.MonkeyPatch) -> torch.Tensor:
    """SanaSprintPipeline's loop, with its conversion from flow to TrigFlow, at unit variance."""
    steps, draws = len(noise), iter([*noise[1:], torch.zeros_like(noise[0])])
    patch.setattr(scheduling_scm, "randn_tensor", lambda *_, **__: next(draws))
    scheduler = SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None
    scheduler.set_timesteps(steps, max_timesteps=MAX_TIMESTEP, intermediate_timesteps=middle)
    scheduler.set_begin_index(0)
    latents, x0 = noise[0] * 0.5, noise[0]
    for t in scheduler.timesteps[:-1]:
        s = torch.sin(t) / (torch.cos(t) + torch.sin(t))
        norm = torch.sqrt(s**2 + (1 - s) ** 2)
        x = latents / 0.5 * norm
        trig = ((1 - 2 * s) * x + (1 - 2 * s + 2 * s**2) * velocity(x, float(s))) / norm
        latents, x0 = scheduler.step(trig * 0.5, t, latents, return_dict=False)
    return x0 / 0.5


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_sampler_is_diffusers_scheduler(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(steps, 1, 4, 8, 8, generator=torch.Generator().manual_seed(steps))
    times = trigflow_times(steps)
    found = sample(lambda x, i: x - times[i] * velocity(x, times[i]), list(noise), times)
    deviation = (found - run_scheduler(noise, monkeypatch)).abs().max().item()
    assert len(times) == steps
    assert deviation <= TOLERANCE, f"deviation {deviation:.2e}, tolerance {TOLERANCE}"


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_times_fall_from_noise_to_picture(steps: int) -> None:
    times = trigflow_times(steps)
    assert times[0] == pytest.approx(1.0, abs=1e-5)
    assert all(later < earlier for earlier, later in itertools.pairwise(times))
    assert min(times) > 0
    assert all(type(time) is float for time in times)


def test_the_middle_of_two_steps_is_the_pipelines_default() -> None:
    assert trigflow_times(2)[1] == pytest.approx(math.sin(1.3) / (math.sin(1.3) + math.cos(1.3)))


@pytest.mark.parametrize("steps", [0, 5, -1, 20])
def test_other_counts_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match=f"steps={steps}: .* 1, 2, 3, 4"):
        trigflow_times(steps)


def test_numpy_and_torch_take_the_same_road() -> None:
    noise = np.random.default_rng(0).standard_normal((3, 1, 2, 4, 4)).astype(np.float32)
    seen: list[int] = []

    def denoise(x: np.ndarray, step: int) -> np.ndarray:
        seen.append(step)
        return x * 0.5 + step

    found = sample(denoise, list(noise), (1.0, 0.6, 0.2))
    assert seen == [0, 1, 2]
    wanted = sample(lambda x, i: x * 0.5 + i, list(torch.from_numpy(noise)), (1.0, 0.6, 0.2))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6)
    x1 = 0.4 * (noise[0] * 0.5) + 0.6 * noise[1]
    x2 = 0.8 * (x1 * 0.5 + 1) + 0.2 * noise[2]
    np.testing.assert_allclose(found, x2 * 0.5 + 2, rtol=1e-6)


def test_one_step_is_noise_minus_velocity() -> None:
    noise = torch.randn(1, 1, 2, 4, 4)
    found = sample(lambda x, i: x - velocity(x, 1.0), list(noise), (1.0,))
    assert torch.equal(found, noise[0] - velocity(noise[0], 1.0))
