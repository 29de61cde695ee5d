"""The contract of every family file: found by its name, loads, specializes, says which pipelines it reads."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.registry import list_members, load_member
from sprint_export.students import source

FAMILIES = list(list_members("student"))


def test_there_are_families() -> None:
    assert "sana_sprint" in FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_offers_the_stages(family: str) -> None:
    module = load_member("student", family)
    assert family == module.FAMILY
    assert list(inspect.signature(module.load).parameters) == ["folder", "source", "revision", "variant"]
    assert list(inspect.signature(module.specialize).parameters) == ["student", "plan"]
    assert list(inspect.signature(module.make_reference).parameters) == ["student", "roles"]
    assert list(inspect.signature(module.check_tokenizer).parameters) == ["student"]
    assert callable(module.check_free_sizes)
    assert list(inspect.signature(module.free_sizes).parameters) == ["student"]
    assert inspect.getdoc(module), "the docstring says what the family covers"


@pytest.mark.parametrize("family", FAMILIES)
def test_its_pipelines_are_read_without_importing_it(family: str) -> None:
    module = load_member("student", family)
    assert module.PIPELINES
    assert source._pipelines(family) == module.PIPELINES
    assert module.__file__ is not None
    names = [
        node.targets[0].id
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    assert {"FAMILY", "PIPELINES"} <= set(names)


def test_no_two_families_read_one_pipeline() -> None:
    pipelines = [name for family in FAMILIES for name in source._pipelines(family)]
    assert len(pipelines) == len(set(pipelines))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_folder_is_the_users_mistake(family: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_member("student", family).load(tmp_path, "here", None)


def test_specialize_returns_a_student_with_the_plan(tiny_student: Student) -> None:
    plan = StepPlan((1.0,), 3.0)
    specialized = load_member("student", tiny_student.family).specialize(tiny_student, plan)
    assert specialized.plan == plan
    assert set(specialized.components) == set(tiny_student.components)
    for component in specialized.components.values():
        assert component.inputs
        assert component.outputs


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(InputError, match=r"unknown student 'nobody'; choose from: .*sana_sprint"):
        load_member("student", "nobody")
