"""The public face: every name in `__all__` resolves to what its stage defines, in whatever order one imports."""

from __future__ import annotations

import inspect
import re

import pytest

import sprint_export
from sprint_export.errors import SprintExportError
from tests.tree import ROOT, package_modules

VERBS = (
    "load_student",
    "specialize_student",
    "quantize_student",
    "export_student",
    "build_bundle",
    "open_bundle",
    "check_bundle",
    "serve",
    "validate_bundle",
    "convert",
    "convert_targets",
    "pack_bundle",
)
ERRORS = ("SprintExportError", "InputError", "RefusedError", "BundleError", "MachineError")


def test_all_names_the_verbs_and_the_errors_and_nothing_else() -> None:
    assert sorted(sprint_export.__all__) == sorted([*VERBS, *ERRORS])
    assert set(sprint_export.__all__) <= set(dir(sprint_export))


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_a_documented_typed_function(name: str) -> None:
    verb = getattr(sprint_export, name)
    assert inspect.isfunction(verb), f"{name} is a {type(verb).__name__}"
    assert verb.__module__.startswith("sprint_export.")
    assert verb.__doc__
    assert "return" in verb.__annotations__


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_derives_from_the_one_base(name: str) -> None:
    error = getattr(sprint_export, name)
    assert issubclass(error, SprintExportError)
    assert error.exit_status in (2, 3)


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="module 'sprint_export' has no attribute 'load_students'"):
        sprint_export.load_students  # noqa: B018 the access is what is tested


def test_the_package_says_the_version_that_pyproject_says() -> None:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert sprint_export.__version__ == found[1]


def test_every_module_opens_with_a_docstring() -> None:
    first = {name: path.read_text("utf-8").lstrip()[:3] for name, path in package_modules().items()}
    assert len(first) > 10
    assert [name for name, opening in first.items() if opening != '"""'] == []
