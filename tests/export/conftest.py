"""Graphs that several files look at, exported once a session."""

from __future__ import annotations

import pytest

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import Exported, export_component, make_feeds, quantize
from tests.made_student import Array
from tests.tree import ROLES


@pytest.fixture(scope="session")
def tiny_special(tiny_student: Student) -> Student:
    return specialize_student(tiny_student)


@pytest.fixture(scope="session")
def made_special(made: Student) -> Student:
    return specialize_student(made)


@pytest.fixture(scope="session")
def tiny_feeds(tiny_special: Student) -> dict[str, dict[str, Array]]:
    return make_feeds(tiny_special)


@pytest.fixture(scope="session")
def made_feeds(made_special: Student) -> dict[str, dict[str, Array]]:
    return make_feeds(made_special)


@pytest.fixture(scope="session")
def fp32_graphs(tiny_special: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The tiny student in float32, all three components."""
    folder = tmp_path_factory.mktemp("fp32")
    return {role: export_component(tiny_special.components[role], "fp32", folder / role) for role in ROLES}


@pytest.fixture(scope="session")
def int8_graphs(made_special: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The made student for onnx-int8: float32 arithmetic, a weight scale per channel everywhere."""
    folder, student = tmp_path_factory.mktemp("int8"), quantize(made_special, "onnx", "int8")
    return {role: export_component(student.components[role], "fp32", folder / role) for role in ROLES}


@pytest.fixture(scope="session")
def fp8_graphs(tiny_special: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The tiny student for trt-fp8, before its rewrites: bfloat16 arithmetic, the decoder in INT8; with shadows."""
    folder, student = tmp_path_factory.mktemp("fp8"), quantize(tiny_special, "trt", "fp8")
    return {role: export_component(student.components[role], "bf16", folder / role) for role in ("transformer", "vae_decoder")}
