"""The checker catches a wrong program: one thing is changed in a saved bundle, and the operation that reads it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools")

from sprint_export.conversion import convert
from sprint_export.errors import BundleError
from sprint_export.export.bundle import locate_kind, make_artifact, read_bundle, write_bundle
from sprint_export.libraries import hush
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report
from sprint_export.nouns.student import Student
from sprint_export.quantize.mend.edits import edit_component, read_edits
from sprint_export.runtimes.coreml.departures import search_component
from sprint_export.runtimes.coreml.mil.allowance import half_unit
from sprint_export.runtimes.coreml.mil.program import Op, read_program
from sprint_export.runtimes.coreml.package import package_of
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate import validate_bundle
from tests.bundles import MAC, copy_bundle, drop_app, shared_bundle
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import PROMPTS, Array
from tests.runtimes.coreml.mil.mil_programs import change_literal, change_weight
from tests.tree import ROLES

DTYPE = "fp16"  # what the graphs of all of these precisions compute in
Feeds = dict[str, dict[str, Array]]
Change = Callable[[Path], Op]  # edits a package in place; the operation that reads what was changed

# precision -> device, which decides the layout, and components
MADE: dict[str, tuple[str, tuple[str, ...]]] = {
    "fp16": ("mac-m4", ROLES),
    "int8": ("iphone-15-pro", ("text_encoder", "transformer")),
    "w8a8": ("iphone-15-pro", ("text_encoder", "vae_decoder")),
}


@dataclass(frozen=True)
class World:
    """The student, laid out as a bundle is, and what goes into its components."""

    special: Student
    feeds: Feeds


@pytest.fixture(scope="module")
def world() -> Callable[[str], World]:
    @cache
    def make(layout: str) -> World:
        special = specialize_student(load_student("sprint-tiny"), layout=layout)
        return World(special, make_feeds(special))

    return make


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """A precision's bundle, made by the first test that asks for it."""

    @cache
    def make(precision: str) -> Bundle:
        device, roles = MADE[precision]
        if roles == ROLES:
            return read_bundle(shared_bundle(tmp_path_factory.getbasetemp(), f"coreml-{precision}", **MAC))
        folder = tmp_path_factory.mktemp("departures") / precision
        options = {"device": device, "components": roles, "prompts": PROMPTS, "validate": False}
        return convert("sprint-tiny", f"coreml-{precision}", folder, **options)  # type: ignore[arg-type]  # named options

    return make


def search(bundle: Bundle, role: str, world: Callable[[str], World]) -> str | None:
    """`search_component` with the layers of the bundle's own manifest and the edits of its own weights."""
    known = world(bundle.layout)
    record = next(record for record in bundle.components if record.role == role)
    component = edit_component(known.special.components[role], read_edits(locate_kind(bundle, role, "edits")))
    with hush():
        return search_component(bundle, dataclasses.replace(component, layers=record.layers), DTYPE, known.feeds[role])


def list_packages(bundle: Bundle, role: str) -> list[Path]:
    record = next(record for record in bundle.components if record.role == role)
    return [package_of(bundle.folder / role / part.graph) for part in record.parts]


def find_op(package: Path, kind: str, reads: str = "", of: Callable[[Op], bool] = lambda op: True) -> Op:
    """The first operation of a type that reads a value whose name contains `reads`."""
    ops = read_program(package).ops
    return next(op for op in ops if op.type == kind and any(reads in name for name in op.operands) and of(op))


def change_layer(kind: str, layer: str, part: str, dtype: str, change: Callable[[Any], None], reads: str = "weight") -> Change:
    """Edit the weights file: what a layer reads, or the "data" or "scale" its weight is decompressed from."""

    def apply(package: Path) -> Op:
        op = find_op(package, kind, layer)
        (name,) = op.inputs[reads]
        compressed = read_program(package).compressed
        change_weight(package, compressed[name].inputs[part][0] if part else name, dtype, change)
        return op

    return apply


def change_attribute(kind: str, parameter: str, old: Any, new: Any) -> Change:
    """Write another literal into the first operation of a type that has the old one."""

    def apply(package: Path) -> Op:
        constants = read_program(package).constants
        op = find_op(
            package, kind, of=lambda op: parameter in op.inputs and _says(constants[op.inputs[parameter][0]].load(), old)
        )
        change_literal(package, op.inputs[parameter][0], new)
        return op

    return apply


def _says(found: Array, wanted: Any) -> bool:
    return found.shape == np.shape(wanted) and bool(np.all(found == np.asarray(wanted, found.dtype)))


def change_rounding(kind: str) -> Change:
    """Enlarge the scale of a quantize or dequantize; the layer that reads the pair's result is what departs."""

    def apply(package: Path) -> Op:
        ops, constants = read_program(package).ops, read_program(package).constants
        op = find_op(package, kind)
        pair = op if kind == "dequantize" else next(one for one in ops if op.outputs[0].name in one.operands)
        (scale,) = op.inputs["scale"]
        change_literal(package, scale, float(constants[scale].load()) * 1.25)
        return next(one for one in ops if pair.outputs[0].name in one.operands)

    return apply


def add(place: int, amount: float) -> Callable[[Any], None]:
    def change(flat: Any) -> None:
        flat[place] += amount

    return change


def step(flat: Any) -> None:
    """Move the first stored integer by 80 of its 255 steps."""
    flat[0] = flat[0] - 80 if flat[0] > 0 else flat[0] + 80


def grow(place: int) -> Callable[[Any], None]:
    def change(flat: Any) -> None:
        flat[place] *= 1.1

    return change


# (precision, role, what) -> how
CHANGES: dict[tuple[str, str, str], Change] = {
    ("fp16", "transformer", "one weight"): change_layer("linear", "blocks_1_attn1_to_k", "", "float16", add(700, 0.1)),
    ("fp16", "transformer", "an epsilon"): change_attribute("layer_norm", "epsilon", np.float16(1e-6), 1e-2),
    ("fp16", "text_encoder", "the axis of a softmax"): change_attribute("softmax", "axis", -1, -2),
    ("fp16", "text_encoder", "the form of a gelu"): change_attribute("gelu", "mode", "TANH_APPROXIMATION", "EXACT"),
    ("fp16", "transformer", "equal sizes permuted"): change_attribute("transpose", "perm", [0, 3, 1, 2], [0, 3, 2, 1]),
    ("fp16", "vae_decoder", "one bias"): change_layer("conv", "decoder_conv_in", "", "float16", add(5, 0.1), "bias"),
    ("int8", "transformer", "one weight"): change_layer("conv", "blocks_1_attn2_to_q", "data", "int8", step),
    ("int8", "transformer", "one scale"): change_layer("conv", "blocks_0_ff_conv_point", "scale", "float16", grow(7)),
    ("int8", "text_encoder", "one scale"): change_layer("linear", "layers_0_mlp_down_proj", "scale", "float16", grow(3)),
    ("int8", "text_encoder", "a row of the embedding"): change_layer("gather", "embed", "scale", "float16", grow(4), "x"),
    ("w8a8", "vae_decoder", "one weight"): change_layer("conv", "conv_inverted", "data", "int8", step),
    ("w8a8", "vae_decoder", "a scale of what goes in"): change_rounding("quantize"),
    ("w8a8", "text_encoder", "a scale of what goes on"): change_rounding("dequantize"),
}


@pytest.mark.parametrize("precision", MADE)
def test_a_healthy_bundle_has_no_departure(
    precision: str, healthy: Callable[[str], Bundle], world: Callable[[str], World]
) -> None:
    bundle = healthy(precision)
    assert {role: search(bundle, role, world) for role in MADE[precision][1]} == dict.fromkeys(MADE[precision][1])


@pytest.mark.parametrize(("precision", "role", "what"), CHANGES)
def test_the_operation_that_reads_what_was_changed_is_named(
    precision: str, role: str, what: str, healthy: Callable[[str], Bundle], world: Callable[[str], World], tmp_path: Path
) -> None:
    source = healthy(precision)
    bundle = dataclasses.replace(source, folder=copy_bundle(source.folder, tmp_path / "bundle"))
    (package,) = list_packages(bundle, role)
    op = CHANGES[precision, role, what](package)
    if op.outputs[0].name.endswith("_lifted"):  # what PyTorch has a name for is the result multiplied back
        op = find_op(package, "mul", op.outputs[0].name)
    found = search(seal(bundle), role, world)
    assert found is not None, f"{op.type} {op.name} was changed unnoticed"
    assert found.startswith(f"model.mlpackage: op {op.name!r} ({op.type}) gives {op.outputs[0].name!r} with a "), found
    assert what != "one weight" or op.inputs["weight"][0] in found, found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The decoder in half precision, cut in two."""
    folder = tmp_path_factory.mktemp("departures") / "parts"
    return convert(
        "sprint-tiny", "coreml-fp16", folder, components=("vae_decoder",), validate=False, options={"part_megabytes": 1}
    )


def test_a_part_is_searched_with_what_pytorch_hands_to_it(parts: Bundle, world: Callable[[str], World], tmp_path: Path) -> None:
    """Rounding what is handed on is no departure; a change in the second part is found there."""
    assert len(list_packages(parts, "vae_decoder")) == 2
    before = {name: value.copy() for name, value in world(parts.layout).feeds["vae_decoder"].items()}
    assert search(parts, "vae_decoder", world) is None
    after = world(parts.layout).feeds["vae_decoder"]
    assert after.keys() == before.keys(), "what is handed on stays inside"
    bundle = dataclasses.replace(parts, folder=copy_bundle(parts.folder, tmp_path / "bundle"))
    package = list_packages(bundle, "vae_decoder")[1]
    op = change_layer("conv", "conv", "", "float16", add(0, 0.1))(package)
    found = search(bundle, "vae_decoder", world)
    assert found is not None
    assert found.startswith(f"model_2.mlpackage: op {op.name!r} (conv) gives "), found


def test_parts_take_what_the_manifest_says(parts: Bundle) -> None:
    (record,) = parts.components
    for part, package in zip(record.parts, list_packages(parts, "vae_decoder"), strict=True):
        declared = {value.name: value.dtype for value in read_program(package).inputs}
        assert declared == {spec.name: spec.dtype for spec in part.inputs}


def seal(bundle: Bundle) -> Bundle:
    """With the manifest that a damaged bundle would have, had it been exported so."""
    folder = bundle.folder
    artifacts = (make_artifact(folder, folder / a.path, a.role, a.kind, a.format) for a in bundle.artifacts)
    sealed = dataclasses.replace(bundle, artifacts=tuple(artifacts))
    write_bundle(sealed)
    return sealed


@pytest.fixture
def damaged(healthy: Callable[[str], Bundle], tmp_path: Path) -> Iterator[tuple[Path, Op]]:
    """One weight of a whole bundle changed so little that no picture shows it."""
    folder = copy_bundle(healthy("fp16").folder, tmp_path / "bundle")
    package = folder / "vae_decoder" / "model.mlpackage"
    yield folder, change_layer("conv", "decoder_conv_in", "", "float16", add(100, 0.05))(package)


def test_an_altered_file_is_refused_before_anything_is_drawn(damaged: tuple[Path, Op]) -> None:
    with pytest.raises(BundleError, match=r"weight\.bin was altered: its sha256 is not the one in bundle\.json; copy or export"):
        validate_bundle(damaged[0], count=1)
    assert not (damaged[0] / "report.json").exists()


def test_a_wrong_program_fails_its_gate_however_good_the_picture(damaged: tuple[Path, Op]) -> None:
    folder, op = damaged
    seal(read_bundle(drop_app(folder), verify=False))
    report = validate_bundle(folder, prompts=PROMPTS[:1])
    rows = {row.component: row for row in report.rows if row.metric == "departures"}
    assert {role: (row.value, row.limit, row.passed) for role, row in rows.items()} == {
        "text_encoder": (0.0, "departures<=0", True),
        "transformer": (0.0, "departures<=0", True),
        "vae_decoder": (1.0, "departures<=0", False),
    }
    assert rows["transformer"].note == "every operation gives what PyTorch gives"
    assert f"op {op.name!r} (conv)" in rows["vae_decoder"].note
    assert failed_gates(report) == ["departures", "departing_blocks", "differing_layers"], "the picture is as good as before"
    assert not report.passed


def failed_gates(report: Report) -> list[str]:
    return [row.metric for row in report.rows if row.passed is False]


def test_a_zero_in_a_compressed_weight_allows_nothing() -> None:
    """Zeros are many in 8 and 4 bits; taken for numbers near 1 they hid a scale that was 10 % off."""
    assert half_unit(torch.tensor([0.0, 2.0**-20, 1.0])).tolist() == [2.0**-25, 2.0**-25, 2.0**-11]
