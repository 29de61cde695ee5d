"""The recipe of a run: what is refused before any work, what a name means, what a searched bundle holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import InputError, RefusedError
from sprint_export.export.bundle import find_file, read_bundle
from sprint_export.nouns.order import CheckedOrder, Order
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.quantize.recipes import read_preset
from sprint_export.quantize.search.frontier import read_frontier
from sprint_export.recipe_choice import choose_recipe, find_psnr_gate
from sprint_export.recipe_toml import write_recipe
from sprint_export.registry import load_target
from sprint_export.run_checks import check_order
from sprint_export.specialize import specialize_student
from sprint_export.validate.gates import read_gates
from tests.bundles import read_rows
from tests.tree import ROLES

ONNX, COREML = (load_target(name) for name in ("onnx", "coreml"))
CPU, PHONE = find_device("cpu"), find_device("iphone-15-pro")
PROMPTS = ("a red circle above a blue square", "a green square")
OWN = Recipe("mine", (Rule("*", "int8", "all"),), PROMPTS, 1)


def check(recipe: Any = None, precision: str = "int8", **more: Any) -> CheckedOrder:
    target = "coreml" if precision == "w4" else "onnx"
    return check_order(Order(target=f"{target}-{precision}", recipe=recipe, **more))


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"recipe": "best"}, InputError, r"unknown recipe 'best'; choose from: auto, balanced, faithful, fast, or the path of"),
        ({"recipe": Path("no/such.toml")}, InputError, r"unknown recipe 'no/such\.toml'; choose from: .* that exists"),
        ({"recipe": "fast", "precision": "fp16"}, RefusedError, r"onnx-fp16 quantizes nothing .*use onnx-int8, onnx-fp8"),
        ({"recipe": "auto", "precision": "fp32"}, RefusedError, r"onnx-fp32 quantizes nothing"),
        ({"recipe": "auto", "gates": ["psnr_db<=40"]}, InputError, r"needs a gate from below, found 'psnr_db<=40'"),
        ({"recipe": "auto", "cost": "time"}, InputError, r"--cost time: no peaks of cpu"),
        ({"recipe": "auto", "cost": "money"}, InputError, r"unknown cost 'money'; choose from: bytes, time"),
        ({"recipe": "fast", "cost": "bytes"}, InputError, r"--cost bytes .* expected --recipe auto beside it"),
        ({"recipe": "auto", "components": ROLES[:1]}, InputError, r"needs all networks; leave --component out"),
        ({"max_mb": 2.0}, RefusedError, r"onnx-int8 does not mix bits; a size budget is for coreml-w4 and coreml-w6"),
        (
            {"recipe": Recipe("odd", (Rule("*", "int7"),))},
            InputError,
            r"unknown precision in rule '\*' of recipe 'odd' for onnx targets: 'int7'; "
            r"choose from: float, fp8, fp8a16, int4, int8, "
            r"w4a16, w8a16, w8a8\. Did you mean 'int8'\? On onnx, int8 means w8a8, int4 means w4a16",
        ),
        ({"recipe": Recipe("odd", (Rule("*", "fp16"),))}, InputError, r"'fp16'; choose from: float, fp8, fp8a16, int4"),
        ({"max_mb": 2.0, "recipe": "auto", "precision": "w4"}, InputError, r"a size budget and a recipe both decide"),
        ({"max_mb": 2.0, "precision": "w4", "components": ROLES[:1]}, InputError, r"leave --component out"),
    ],
    ids=str,
)
def test_what_cannot_be_met_is_refused_before_any_work(asked: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(**asked)


def test_a_name_a_file_and_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(write_recipe(OWN), "utf-8")
    assert check(str(path)).recipe == check(path).recipe == check(OWN).recipe == OWN
    assert check("fast").recipe == "fast"
    assert check().recipe is None


def test_a_name_becomes_the_preset_of_the_pair(tiny_student: Student) -> None:
    student = specialize_student(tiny_student)
    said: list[str] = []
    found = choose_recipe(student, check("faithful"), lambda *_: None, said.append)
    assert found == (read_preset("faithful", "int8", student, ONNX), None)
    assert choose_recipe(student, check(OWN), lambda *_: None, said.append) == (OWN, None)
    assert choose_recipe(student, check(), lambda *_: None, said.append) == (None, None)
    assert said == []


def test_without_a_gate_auto_reaches_the_precisions_own() -> None:
    assert find_psnr_gate((), "w8a8") == 25
    assert find_psnr_gate((), "p4a16") == 20
    assert find_psnr_gate(read_gates(("psnr_db>=41.5", "adherence_drop_points<=1")), "w8a8") == 41.5


def test_a_searched_bundle_shows_what_was_found(tiny_student: Student, tmp_path: Path) -> None:
    student = dataclasses.replace(tiny_student, calibration_prompts=PROMPTS, validation_prompts=PROMPTS)
    said: list[str] = []
    folder = tmp_path / "bundle"
    convert(student, "onnx-int8", folder, recipe="auto", gates=["psnr_db>=38"], count=1, say=said.append)
    bundle = read_bundle(folder)
    assert bundle.recipe is not None
    assert bundle.recipe.name == "auto-psnr_db>=38"
    for name in ("frontier.json", "frontier.png"):
        artifact = find_file(bundle, name)
        assert artifact is not None
        assert (artifact.role, artifact.kind) == ("recipe", "frontier")
    frontier = read_frontier(folder / "frontier.json")
    rows = read_rows(folder)
    assert rows["", "searched_psnr_db"]["value"] == frontier.chosen.psnr_db >= 38
    assert rows["", "recipe_cost"]["value"] == frontier.chosen.cost
    assert rows["", "recipe_cost"]["unit"] == "bytes"
    assert rows["", "quantized_share"]["limit"] is None, "a recipe that leaves layers in float on purpose"
    assert any(f"{frontier.chosen.psnr_db:.1f} dB on the 2 prompts of the search" in line for line in said)
    said.clear()
    convert(student, "onnx-int8", folder, recipe="auto", gates=["psnr_db>=38"], validate=False, say=said.append)
    assert f"{folder} was made from the same inputs; nothing to do but validate it" in said


def test_a_preset_by_its_name_is_in_the_bundle(tiny_student: Student, tmp_path: Path) -> None:
    student = dataclasses.replace(tiny_student, calibration_prompts=PROMPTS)
    bundle = convert(student, "onnx-int8", tmp_path / "out", recipe="fast", components=ROLES[2:])
    assert bundle.recipe is not None
    assert bundle.recipe.name == "int8-fast"
    assert find_file(bundle, "frontier.json") is None
