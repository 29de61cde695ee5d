"""TwinFlow on SANA: told by the second time embedder, with TwinFlow's times, and refused where it is no whole student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError, RefusedError
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.two_times import SECOND, TwoTimes
from sprint_export.students.twinflow_sana.family import FAMILY
from tests.students.contract import check_drawing

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


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


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = load_student("twinflow-tiny").folder
    assert folder is not None
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_its_tensors_alone_tell_it(copied: Path) -> None:
    assert load_student(copied).family == "twinflow_sana"
    weights = load_file(copied / WEIGHTS)
    save_file({name: value for name, value in weights.items() if not name.startswith(SECOND)}, copied / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=r"guidance_embeds=False; expected true: this is a multi-step SANA"):
        load_student(copied)


def test_half_a_second_embedder_is_an_error(copied: Path) -> None:
    weights = load_file(copied / WEIGHTS)
    del weights[f"{SECOND}linear.weight"]
    save_file(weights, copied / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=r"linear\.weight"):
        load_student(copied)


def test_guidance_and_a_second_time_exclude_each_other(copied: Path) -> None:
    file = copied / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"guidance_embeds": True}))
    with pytest.raises(InputError, match=r"guidance_embeds=true is not covered; expected false"):
        load_student(copied)
