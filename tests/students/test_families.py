"""The contract of every family: found by its name without a library, and its tiny twin goes the whole way."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sprint_export.errors import InputError
from sprint_export.nouns.chain import is_loop
from sprint_export.nouns.parts import Lora
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import list_families, load_family
from sprint_export.students.lora import merge_lora
from tests.students.contract import STEPS, check_conversion, check_drawing
from tests.test_house import HEAVY, run_python

FAMILIES = {family.name: family for family in list_families()}
TRAINED = {"twinflow_sana": "twinflow-tiny"}  # students that ship, in the place of a twin with random weights
every_family = pytest.mark.parametrize("name", FAMILIES)


def test_there_are_families() -> None:
    assert "sana_sprint" in FAMILIES


@every_family
def test_its_chain_makes_a_picture(name: str) -> None:
    chain = FAMILIES[name].chain
    assert sum(is_loop(group) for group in chain.group(chain.roles)) == 1, "one loop"
    assert chain.list_missing(chain.roles) == ()
    assert inspect.getdoc(inspect.getmodule(type(FAMILIES[name]))), "the docstring says what the family covers"
    assert (FAMILIES[name].recipes / "balanced.toml").is_file(), "the recipe that is taken where none is named"


def test_families_are_asked_without_a_library() -> None:
    code = (
        f"import sys\nfor name in {sorted(HEAVY | {'numpy'})}: sys.modules[name] = None\n"
        "from sprint_export.students.family import list_families, plan_steps\n"
        "from sprint_export.students.judge import list_judges\n"
        "print(*(f'{family.name} {plan_steps(family, 1).steps}' for family in list_families()), len(list_judges()))"
    )
    assert run_python(code) == " ".join([*(f"{name} 1" for name in FAMILIES), "1"])


def test_no_two_families_read_one_pipeline_with_the_same_weights() -> None:
    pipelines = [(name, family.marks) for family in FAMILIES.values() for name in family.pipelines]
    assert pipelines
    assert len(pipelines) == len(set(pipelines))


@every_family
def test_an_empty_folder_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        FAMILIES[name].load(tmp_path, "here", None)


@every_family
@pytest.mark.parametrize("steps", STEPS)
def test_the_tiny_twin_draws_what_the_reference_draws(name: str, steps: int) -> None:
    check_drawing(FAMILIES[name], steps)


@every_family
def test_the_tiny_twin_draws_at_given_times(name: str) -> None:
    check_drawing(FAMILIES[name], 2, times=(1.0, 0.45))


@every_family
def test_the_tiny_twin_takes_a_lora(name: str, tmp_path: Path) -> None:
    """Layers under their own names are found among the denoiser's weights, and folds take the merged ones."""
    family = FAMILIES[name]
    student, role = family.tiny(), family.find_lora_layer("layer")[0]
    layer = next(name for name, each in student.components[role].module.named_modules() if isinstance(each, torch.nn.Linear))
    rows, columns = student.components[role].weights[f"{layer}.weight"].shape
    factors = {"A": torch.ones(1, columns) / columns, "B": torch.ones(rows, 1)}
    save_file({f"transformer.{layer}.lora_{side}.weight": value for side, value in factors.items()}, tmp_path / "a.safetensors")
    changed = merge_lora(student, family, Lora(tmp_path / "a.safetensors", 2.0))
    before, after = (each.components[role].weights[f"{layer}.weight"].load().float() for each in (student, changed))
    assert torch.allclose(after - before, torch.full_like(before, 2 / columns), atol=1e-6)
    specialize_student(changed)


@every_family
def test_the_tiny_twin_goes_the_whole_road(name: str, tmp_path: Path) -> None:
    student = load_student(TRAINED[name]) if name in TRAINED else None
    check_conversion(FAMILIES[name], "onnx-int8", tmp_path / "bundle", least_db=20 if student is None else 40, student=student)


def test_specialize_returns_a_student_with_the_plan(tiny_student: Student) -> None:
    plan = StepPlan((1.0,), 3.0)
    specialized = load_family(tiny_student.family).specialize(tiny_student, plan)
    assert specialized.plan == plan
    assert set(specialized.components) == set(tiny_student.components)
    for component in specialized.components.values():
        assert component.inputs
        assert component.outputs


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(InputError, match=r"unknown student 'nobody'; choose from: .*sana_sprint"):
        load_family("nobody")
