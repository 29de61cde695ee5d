"""One set of weights for several step counts: each count draws what a student specialized to it alone draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes import open_bundle
from sprint_export.session import Pipeline, open_student
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.students.sana_sprint.times import trigflow_times
from tests.tree import ROLES

COUNTS = (1, 2, 4)
PROMPTS = ["a red circle", "a blue square above a green circle"]


def open_torch(student: Student, steps: int | None = None) -> Pipeline:
    sessions = {role: TorchSession(student.components[role]) for role in ROLES}
    return dataclasses.replace(open_student(student, sessions), steps=steps)


def test_the_plan_says_where_each_schedule_stands() -> None:
    plan = specialize_student(tiny(), COUNTS).plan
    assert plan is not None
    assert plan.times == (*trigflow_times(1), *trigflow_times(2), *trigflow_times(4))
    assert (plan.counts, plan.steps) == (COUNTS, 1)
    assert [plan.rows(count) for count in COUNTS] == [range(1), range(1, 3), range(3, 7)]
    assert plan.rows() == range(1)
    with pytest.raises(InputError, match="unknown number of steps '3'; choose from: 1, 2, 4"):
        plan.rows(3)
    with pytest.raises(InputError, match="unknown number of steps '0'"):
        plan.rows(0)
    assert StepPlan(trigflow_times(2), 4.5).rows() == range(2)


@pytest.mark.parametrize("layout", ["channels-last", "channels-first"])
@pytest.mark.parametrize("steps", COUNTS)
def test_a_count_draws_what_a_student_of_its_own_draws(steps: int, layout: str) -> None:
    student = tiny()
    shared = open_torch(specialize_student(student, COUNTS, layout=layout), steps)
    alone = open_torch(specialize_student(student, steps, layout=layout))
    noise = make_noise(0, steps, len(PROMPTS), student.latent_shape)
    difference = shared(PROMPTS, noise=noise).astype(int) - alone(PROMPTS, noise=noise)
    assert np.abs(difference).max() <= 1  # one grey level: the fold adds in another order


def test_a_bundle_is_opened_for_a_count(tmp_path: Path) -> None:
    student = tiny()
    folder = tmp_path / "bundle"
    convert(student, "onnx-fp32", folder, steps=COUNTS, validate=False)
    for steps in COUNTS:
        pictures = open_bundle(folder, steps=steps)(PROMPTS, seed=0)
        wanted = open_torch(specialize_student(student, steps))(PROMPTS, seed=0)
        assert np.abs(pictures.astype(int) - wanted).max() <= 1
    with pytest.raises(InputError, match="unknown number of steps '3'; choose from: 1, 2, 4"):
        open_bundle(folder, steps=3)


@pytest.mark.parametrize(("steps", "found"), [((), r"steps=\(\)"), ((1, 5), "steps=5")])
def test_counts_that_make_no_sense(steps: tuple[int, ...], found: str) -> None:
    with pytest.raises(InputError, match=found):
        specialize_student(tiny(), steps)
