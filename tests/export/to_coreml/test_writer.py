"""Core ML packages of whole components, evaluated from the file: equal to PyTorch, or to PyTorch rounded the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")

from sprint_export.export.bundle import read_bundle
from sprint_export.export.to_coreml import writer as to_coreml
from sprint_export.export.to_coreml.fixes import TANH_FORM
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize import quantize_student
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.coreml.checker import RUNTIME
from sprint_export.runtimes.coreml.mil.program import read_program
from sprint_export.session import JoinedSession, Session
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate.images import psnr_arrays, relative_error
from tests.bundles import shared_bundle
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import Array
from tests.tree import ROLES

TARGET = load_target("coreml")
Feeds = dict[str, dict[str, Array]]
PROMPTS = ("a red circle", "a blue square")


def write(component: Component, folder: Path, precision: str = "fp32", **options: object) -> ComponentRecord:
    folder.mkdir(parents=True)
    chosen: Any = {"deployment_target": "iOS18", "compute_unit": "all"} | options
    return to_coreml.EXPORTER.write_component(component, TARGET, precision, chosen, folder)


def open_component(record: ComponentRecord, folder: Path) -> Session:
    return JoinedSession([RUNTIME.open_session(folder / part.graph, part.inputs, part.outputs) for part in record.parts])


@dataclasses.dataclass(frozen=True)
class Made:
    """A component on disk, beside what it was made from."""

    component: Component
    precision: str
    record: ComponentRecord
    folder: Path


Make = Callable[[str, str], Made]  # given a role and a precision


def compare(component: Component, folder: Path, precision: str, feeds: Feeds, **options: object) -> tuple[Array, Array]:
    """As `compare_made`, of what is written now."""
    return compare_made(Made(component, precision, write(component, folder, precision, **options), folder), feeds)


def compare_made(made: Made, feeds: Feeds) -> tuple[Array, Array]:
    """What the package computes, and what torch computes with the same rounding; of a text encoder the prompt's rows."""
    component, precision, record, folder = made.component, made.precision, made.record, made.folder
    name, mine = component.outputs[0].name, feeds[component.role]
    found = open_component(record, folder).run(mine)[name]
    wanted = TorchSession(component, fake=True, dtype=TARGET.graph_dtype[precision]).run(mine)[name]
    if component.role == "text_encoder":
        kept = feeds["transformer"]["prompt_mask"].astype(bool)
        return found[kept], wanted[kept]
    return found, wanted


def quantized(student: Student, precision: str) -> Student:
    return quantize_student(dataclasses.replace(student, calibration_prompts=PROMPTS), precision, TARGET)


@pytest.fixture(scope="module")
def packages(made_special: Student, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Of the made student, each written by the first test that asks for it."""

    @cache
    def round_student(precision: str) -> Student:
        return quantized(made_special, precision) if precision not in ("fp32", "fp16") else made_special

    @cache
    def make(role: str, precision: str) -> Made:
        component, folder = round_student(precision).components[role], tmp_path_factory.mktemp("package") / role
        return Made(component, precision, write(component, folder, precision), folder)

    return make


@pytest.fixture(scope="module")
def first(made: Student) -> Student:
    return specialize_student(made, layout="channels-first")


@pytest.mark.parametrize("role", ROLES)
def test_in_float32_a_package_is_pytorch(role: str, packages: Make, made_feeds: Feeds) -> None:
    found, wanted = compare_made(packages(role, "fp32"), made_feeds)
    assert relative_error(found, wanted) < 1e-5


def test_the_channels_first_transformer_too(first: Student, made_feeds: Feeds, tmp_path: Path) -> None:
    found, wanted = compare(first.components["transformer"], tmp_path / "t", "fp32", made_feeds)
    assert relative_error(found, wanted) < 1e-5


@pytest.mark.parametrize("role", ROLES)
def test_in_half_precision_it_is_within_55_db(role: str, packages: Make, made_feeds: Feeds) -> None:
    assert psnr_arrays(*compare_made(packages(role, "fp16"), made_feeds)) >= 55


def test_the_channels_first_transformer_is_too(first: Student, made_feeds: Feeds, tmp_path: Path) -> None:
    assert psnr_arrays(*compare(first.components["transformer"], tmp_path / "t", "fp16", made_feeds)) >= 55


@pytest.mark.parametrize("precision", ["int8", "w8a8", "w6", "w4"])
@pytest.mark.parametrize("role", ROLES)
def test_compressed_it_is_pytorch_with_the_same_rounding(role: str, precision: str, packages: Make, made_feeds: Feeds) -> None:
    made = packages(role, precision)
    assert made.component.layers
    # w8a8: a value on a rounding step falls either way in half precision
    assert psnr_arrays(*compare_made(made, made_feeds)) >= (30 if precision == "w8a8" else 55)


@pytest.mark.parametrize(("precision", "stored"), [("int8", "INT8"), ("w8a8", "INT8"), ("w6", "UINT6"), ("w4", "UINT4")])
def test_weights_are_stored_in_their_bits(precision: str, stored: str, packages: Make) -> None:
    made = packages("transformer", precision)
    component = made.component
    values = sum(
        component.weights[f"{layer}.weight"].shape[0] * np.prod(component.weights[f"{layer}.weight"].shape[1:])
        for layer in component.layers
    )
    assert made.record.precision_counts[stored] == values
    size = sum(path.stat().st_size for path in made.folder.rglob("weight.bin"))
    floats = made.record.precision_counts["FP16"] * 2
    assert (
        size <= values * load_scheme(next(iter(component.layers.values())).scheme).weights.bits / 8 + floats + 64 * 400
    )  # alignment


def test_int4_in_blocks_through_a_recipe(made_special: Student, made_feeds: Feeds, tmp_path: Path) -> None:
    from sprint_export.nouns.recipe import Recipe, Rule

    recipe = Recipe("mixed", (Rule("*.to_q", "int4"), Rule("*.to_k", "int8"), Rule("*", "float")))
    component = quantize_student(made_special, "w4", TARGET, recipe).components["transformer"]
    assert {layer.scheme for layer in component.layers.values()} == {"w4a16", "w8a16"}
    found, wanted = compare(component, tmp_path / "t", "w4", made_feeds)
    assert psnr_arrays(found, wanted) >= 55


@pytest.mark.parametrize("system", ["iOS17", "iOS26", "macOS15"])
def test_the_deployment_target_is_obeyed(system: str, made_special: Student, made_feeds: Feeds, tmp_path: Path) -> None:
    import coremltools as ct

    component = quantized(made_special, "w8a8").components["vae_decoder"]
    found, wanted = compare(component, tmp_path / "d", "w8a8", made_feeds, deployment_target=system)
    assert psnr_arrays(found, wanted) >= 30
    spec = ct.utils.load_spec(str(tmp_path / "d" / "model.mlpackage"))
    assert spec.specificationVersion == getattr(ct.target, system)


@pytest.mark.parametrize("role", ROLES)
def test_parts_compute_what_the_whole_computes(
    role: str, made_special: Student, made_feeds: Feeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = made_special.components[role]
    whole = sum(to_coreml.stored_bytes(component, "fp32", name) for name in component.weights)
    record = write(component, tmp_path / "parts", part_megabytes=whole / 3e6)
    assert len(record.parts) >= 3
    known = {spec.name for spec in record.inputs}
    for part in record.parts:
        assert {spec.name for spec in part.inputs} <= known
        known |= {spec.name for spec in part.outputs}
    assert record.parts[-1].outputs == record.outputs
    found = open_component(record, tmp_path / "parts").run(made_feeds[role])[component.outputs[0].name]
    wanted = TorchSession(component).run(made_feeds[role])[component.outputs[0].name]
    assert relative_error(found, wanted) < 1e-5


def test_gelus_keep_their_form(made_special: Student, packages: Make) -> None:
    forms = {}
    for role in ("text_encoder", "transformer"):
        made = packages(role, "fp32")
        program = read_program(made.folder / "model.mlpackage")
        gelus = [op for op in program.ops if op.type == "gelu"]
        forms[role] = [str(program.constants[op.inputs["mode"][0]].load()) for op in gelus]
        assert made.record.parts[0].graph.startswith("model.mlpackage/")
    layers = len(made_special.components["text_encoder"].module.model.layers)  # type: ignore[union-attr, arg-type]
    assert forms == {"text_encoder": [TANH_FORM] * layers, "transformer": [TANH_FORM]}


def test_two_steps_take_a_step_index(made: Student, made_feeds: Feeds, tmp_path: Path) -> None:
    for i, layout in enumerate(("channels-last", "channels-first")):
        student = specialize_student(made, 2, layout=layout)
        component = student.components["transformer"]
        feeds = {"transformer": made_feeds["transformer"] | {"step": np.array([1], np.int64)}}
        found, wanted = compare(component, tmp_path / str(i), "fp32", feeds)
        assert relative_error(found, wanted) < 1e-5


def test_sprint_tiny_reaches_55_db_per_component(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = read_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "coreml-fp16"))
    student = specialize_student(load_student("sprint-tiny"), layout=bundle.layout)
    assert bundle.layout == "channels-first"
    feeds = make_feeds(student)
    for record in bundle.components:
        made = Made(student.components[record.role], bundle.precision, record, bundle.folder / record.role)
        assert psnr_arrays(*compare_made(made, feeds)) >= 55, record.role
