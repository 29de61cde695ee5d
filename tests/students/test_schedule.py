"""Times that are given: how they are read, and that a student at them draws what the stock pipeline draws at them."""

from __future__ import annotations

import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_scm

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.order import Order
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.run_checks import check_order
from sprint_export.specialize import specialize_student
from sprint_export.students.family import Draws, load_family, plan_steps
from sprint_export.students.schedule import Schedule, find_flow_time, find_trigflow_time, read_schedule
from sprint_export.validate.portions import make_draws
from tests.made_student import PROMPTS, make_pipeline

NAMED = {"tbcm": Schedule((1.0, 0.6), 5.0)}
FAMILY = load_family("sana_sprint")


def test_times_are_numbers_trigflow_s_or_a_name() -> None:
    assert read_schedule("1,0.6", NAMED) == read_schedule((1, 0.6), NAMED) == Schedule((1.0, 0.6))
    assert read_schedule("tbcm", NAMED) == NAMED["tbcm"]
    trigflow = read_schedule("trigflow:1.5707963,1.0", {}).times
    assert trigflow == pytest.approx((1.0, math.sin(1) / (math.sin(1) + math.cos(1))), abs=1e-7)


def test_both_kinds_of_time_are_each_other_s_inverse() -> None:
    for t in (1.57080, math.atan(400), 1.3, 0.6, 0.01):
        assert find_trigflow_time(find_flow_time(t)) == pytest.approx(t, abs=1e-12)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fast", "--times fast: expected numbers, e.g. 1,0.6 or trigflow:1.5708,1.0; schedules with a name: tbcm"),
        ("", "--times : expected numbers"),
        ("1,x", "--times 1,x: expected numbers"),
        ("0.6,1", "--times 0.6,1: expected 1 to 4 falling flow times in (0, 1], the noise's first: at least 0.99"),
        ("1,1", "falling"),
        ("1,0", "falling"),
        ("1,-0.5", "falling"),
        ("1,nan", "falling"),
        ("nan", "falling"),
        ("2,1", "falling"),
        ("0.5", "the noise's first"),
        ("1,0.8,0.6,0.4,0.2", "expected 1 to 4"),
        ("trigflow:1.0,0.5", "--times trigflow:1.0,0.5 (flow times 0.60898, 0.3533): expected 1 to 4 falling"),
        ("trigflow:3,1", "falling"),
        ((), "expected 1 to 4"),
    ],
)
def test_what_is_no_schedule(asked: str | tuple[float, ...], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_schedule(asked, NAMED)
    assert said in str(caught.value)


def test_a_plan_at_given_times() -> None:
    plan = plan_steps(FAMILY, 1, times="tbcm")
    assert plan.times == pytest.approx((1.0000037, 0.6089790), abs=1e-6)  # facts: TrigFlow 1.57080 and 1.0
    assert (plan.guidance, plan.steps, plan.counts) == (5.0, 2, ())
    assert plan_steps(FAMILY, 2, 3.0, "tbcm").guidance == 3.0
    assert plan_steps(FAMILY, 2, times=(1, 0.5)).guidance == 4.5
    for steps in (4, (1, 2)):
        with pytest.raises(InputError, match=r"times='tbcm' are one schedule of 2 steps; leave steps=(4|1,2) out"):
            plan_steps(FAMILY, steps, times="tbcm")


def test_times_are_checked_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--times slow: expected numbers"):
        check_order(Order("sprint-tiny", "onnx-fp32", tmp_path / "out", times="slow"))


def test_tbcm_s_two_steps_are_the_stock_pipeline_s(made: Student) -> None:
    """Stock diffusers itself at TrigFlow's 1.57080 and 1.0 and guidance 5; here the preset, and the reference at its times."""
    specialized = specialize_student(made, times="tbcm")
    noise = make_noise(3, 2, 1, made.latent_shape)
    stock = make_pipeline()
    later = [torch.from_numpy(noise[1]), torch.zeros(noise.shape[1:])]
    side = made.latent_shape[1] * stock.vae_scale_factor
    with mock.patch.object(scheduling_scm, "randn_tensor", mock.Mock(side_effect=later)), torch.no_grad():
        image = stock(
            PROMPTS[0],
            height=side,
            width=side,
            num_inference_steps=2,
            max_timesteps=1.57080,
            intermediate_timesteps=1.0,
            guidance_scale=5.0,
            latents=torch.from_numpy(noise[0]),
            use_resolution_binning=False,
            output_type="np",
        ).images
    wanted = np.rint(image * 255).astype(int)
    draws = make_draws(specialized, specialized.components, PROMPTS[:1])
    assert (draws.guidance, draws.times) == (5.0, FAMILY.schedules["tbcm"].times)
    reference = FAMILY.draw_reference(made, Draws(PROMPTS[:1], noise, 5.0, times=draws.times)).pictures
    other = FAMILY.draw_reference(made, Draws(PROMPTS[:1], noise, 5.0)).pictures
    found = open_torch(specialized)(PROMPTS[:1], noise=noise)
    assert np.abs(reference.astype(int) - wanted).max() <= 1, "tolerance 1 (rounding)"
    assert np.abs(found.astype(int) - wanted).max() <= 1, "tolerance 1 (rounding)"
    assert np.abs(other.astype(int) - wanted).max() > 3, "the family's own two steps are others"


@pytest.mark.parametrize("times", ["1", "trigflow:1.5683,1.3,1.1,0.6"])
def test_the_paper_s_times_and_one_step(made: Student, times: str) -> None:
    specialized = specialize_student(made, times=times)
    draws = make_draws(specialized, specialized.components, PROMPTS[:1])
    wanted = FAMILY.draw_reference(made, draws).pictures
    found = open_torch(specialized)(PROMPTS[:1], noise=draws.noise)
    assert np.abs(found.astype(int) - wanted).max() <= 1, "tolerance 1 (rounding)"
