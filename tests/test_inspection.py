"""`inspect` and `list`: every layer with its rule and reason, the recipe as a file that works again, all without torch."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sprint_export.conversion import convert, load_orders
from sprint_export.errors import InputError
from sprint_export.estimates.memory import describe_memory, plan_memory, read_memory
from sprint_export.export.bundle import read_bundle
from sprint_export.inspection import describe_bundle, describe_recipe, list_names, require_recipe, tabulate_recipe
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.nouns.order import Order
from sprint_export.nouns.student import Student
from sprint_export.quantize.patterns import explain_recipe
from sprint_export.recipe_toml import read_recipe
from sprint_export.run_checks import check_order
from sprint_export.specialize import specialize_student
from tests.bundles import check_refused, run_command

TWO = ("transformer", "vae_decoder")


@pytest.fixture(scope="module")
def student(tiny_student: Student) -> Student:
    return dataclasses.replace(tiny_student, calibration_prompts=("a red circle",))


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return convert(student, "onnx-int8", tmp_path_factory.mktemp("inspect") / "int8", components=TWO)


@pytest.fixture(scope="module")
def plain(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return convert(student, "onnx-fp32", tmp_path_factory.mktemp("inspect") / "fp32", components=TWO[1:])


def test_every_layer_is_there_with_its_reason(bundle: Bundle, student: Student) -> None:
    layers = {layer["layer"]: layer for layer in describe_recipe(read_bundle(bundle.folder))["layers"]}
    whole = specialize_student(student)
    part = dataclasses.replace(whole, components={role: whole.components[role] for role in TWO})
    assert list(layers) == [d.layer for d in explain_recipe(require_recipe(bundle), part)]
    for layer, precision, is_refused, word in (
        ("transformer.patch_embed.proj", "float", False, "entry layer"),
        ("transformer.transformer_blocks.0.attn1.to_q", "w8a8", False, "all other"),
        ("transformer.transformer_blocks.0.ff.conv_depth", "float", True, "depthwise"),
    ):
        found = layers[layer]
        assert (found["precision"], found["is_refused"], found["component"]) == (precision, is_refused, "transformer")
        assert word in found["reason"]
    assert all(layer["rule"] for layer in layers.values())


def test_the_table_names_every_layer(bundle: Bundle) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    for table in tabulate_recipe(bundle):
        console.print(table)
    text = console.export_text()
    for record in bundle.components:
        assert f"{record.role}, recipe int8-balanced: w8a8 " in text
        for decision in record.decisions:
            assert decision.layer.partition(".")[2] in text
    assert "(*)" in text, "a layer that no rule can change"


def test_a_bundle_without_quantization_says_so(plain: Bundle) -> None:
    for show in (describe_recipe, lambda b: list(tabulate_recipe(b)), require_recipe):
        with pytest.raises(InputError, match=r"fp32 was made without quantization \(onnx-fp32\), so it has no recipe"):
            show(plain)
    done = run_command("inspect", plain.folder, "--recipe", folder=plain.folder.parent)
    check_refused(done, 2, "was made without quantization")


def test_the_command_shows_it_for_people_programs_and_editors(bundle: Bundle, tmp_path: Path) -> None:
    table = run_command("inspect", bundle.folder, "--recipe", folder=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "transformer_blocks.0.attn1.to_q" in table.stdout
    value = json.loads(run_command("inspect", bundle.folder, "--recipe", "--json", folder=tmp_path).stdout)
    assert value == describe_recipe(bundle)
    toml = run_command("inspect", bundle.folder, "--recipe", "--toml", folder=tmp_path)
    path = tmp_path / "edited.toml"
    path.write_text(toml.stdout, "utf-8")
    assert read_recipe(path) == bundle.recipe
    for wrong in (["--toml"], ["--recipe", "--toml", "--json"]):
        check_refused(
            run_command("inspect", bundle.folder, *wrong, folder=tmp_path), 2, "expected --recipe --toml, without --json"
        )


def test_inspecting_a_recipe_needs_no_torch(bundle: Bundle) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from sprint_export.export.bundle import read_bundle\n"
        "from sprint_export.inspection import describe_recipe, require_recipe, tabulate_recipe\n"
        "from sprint_export.recipe_toml import write_recipe\n"
        f"found = read_bundle(Path({str(bundle.folder)!r}))\n"
        "text = write_recipe(require_recipe(found))\n"
        "print(len(describe_recipe(found)['layers']), len(list(tabulate_recipe(found))), len(text))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(number) > 0 for number in done.stdout.split())


def test_a_bundle_in_lines(bundle: Bundle) -> None:
    short, long = list(describe_bundle(bundle)), list(describe_bundle(bundle, layers=True))
    assert set(short) < set(long)
    assert any("attn1.to_q: w8a8, input amax" in line for line in long)


def test_what_opens_it_is_said(bundle: Bundle) -> None:
    assert "opens with onnxruntime 1.21.0 or newer" in list(describe_bundle(bundle))
    engine = Artifact("vae_decoder", "engine", "vae_decoder/model.sm89.engine", "tensorrt-rtx", 1, "0" * 64, "rtx-4090")
    versions = {"onnxruntime": "1.21.0", "tensorrt-rtx": "1.7.1.116"}
    built = dataclasses.replace(bundle, artifacts=(engine,), runtimes=versions)
    shadows = "onnxruntime 1.21.0 or newer (shadows, on a CPU)"
    engines = "tensorrt-rtx 1.7.1.116 exactly (engines, compute capability 8.9)"
    assert f"opens with {shadows}, {engines}" in list(describe_bundle(built))


def test_a_licence_cannot_add_lines(bundle: Bundle) -> None:
    lines = list(describe_bundle(bundle))
    forged = list(describe_bundle(dataclasses.replace(bundle, licence="none\nnote: verified")))
    assert len(forged) == len(lines)
    assert forged[0].endswith(r"licence: none\nnote: verified")


def test_the_recipes_are_listed_with_what_they_mean() -> None:
    found = list_names("recipes")
    assert {"auto", "balanced", "faithful", "fast", "faithful (twinflow_z)"} <= set(found), (
        "a family's own, beside the shared ones"
    )
    assert all(found.values())
    with pytest.raises(
        InputError, match="unknown list 'engines'; choose from: devices, precisions, providers, recipes, students, targets"
    ):
        list_names("engines")


def test_a_precision_that_is_a_scheme_and_another_on_some_target_is_listed_as_both() -> None:
    found = list_names("precisions")["fp8"]
    assert found.startswith("8-bit float weights and activations")
    assert found.endswith("; fp8a16 on coreai")


def test_memory_is_planned_for_a_student_and_read_of_its_bundle(student: Student, plain: Bundle) -> None:
    """Weights of the bundle are those that were planned; what is held beside them is counted on the graph and on the module."""
    order = Order(student, "onnx-fp32", plain.folder.parent / "other", components=TWO[1:])
    checked = check_order(order)
    (planned,), (read,) = plan_memory(load_orders([checked]), checked), read_memory(plain)
    assert planned.role == read.role == "vae_decoder"
    assert 0 <= read.weights - planned.weights < 0.1 * planned.weights, "and the graph itself"
    assert planned.activations is not None
    assert read.activations is not None
    assert 0.5 < read.activations / planned.activations < 2
    lines = list(describe_memory([planned], "onnx-fp32 on cpu"))
    assert lines[0].startswith("memory where it runs, planned for onnx-fp32 on cpu: ")
    assert lines[1].startswith(f"    vae_decoder: weights {planned.weights / 1e6:.2f} MB, activations at most ")


def test_4_bits_are_an_eighth_of_a_student_with_what_stays_above(student: Student, tmp_path: Path) -> None:
    sizes = {}
    for target in ("onnx-fp32", "onnx-w4a16"):
        checked = check_order(Order(student, target, tmp_path / target, components=TWO[:1]))
        ((sizes[target]),) = (each.weights for each in plan_memory(load_orders([checked]), checked))
    assert 1 / 8 < sizes["onnx-w4a16"] / sizes["onnx-fp32"] < 1 / 3
