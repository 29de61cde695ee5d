"""compare_weights on real bundles: right files hold what is meant, and a fault planted anywhere names its own layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.report import BlockError
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.validate.weights.compare import Difference, Weights, compare_weights
from sprint_export.validate.weights.gates import make_rows, mark_blocks
from tests.bundles import copy_bundle, shared_bundle
from tests.random_faults import PLANTERS, plant

STUDENT = load_student("sprint-tiny")
TARGETS = ("onnx-int8", "trt-fp8", "coreml-int8")
KINDS = {  # of faults; each draws another layer
    "onnx-int8": tuple(PLANTERS),
    "trt-fp8": ("scale", "outputs", "bias", "range"),
    "coreml-int8": ("scale", "inputs", "neighbour", "bias"),
}
SEED = 1


@pytest.fixture(scope="module", params=TARGETS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right bundle."""
    return shared_bundle(tmp_path_factory.getbasetemp(), request.param)


def compare(folder: Path) -> Weights:
    """As a validation does."""
    bundle = read_bundle(folder)
    return compare_weights(bundle, specialize_like(STUDENT, bundle))


def test_all_weights_of_a_right_bundle_are_compared_and_none_differs(folder: Path) -> None:
    found = compare(folder)
    assert found.differences == []
    assert found.unchecked == []
    assert dict(found.compared) == {"text_encoder": 32, "transformer": 111, "vae_decoder": 33}
    assert all(row.value == 0 for row in make_rows(found))


@pytest.mark.parametrize(("target", "kind"), [(target, kind) for target, kinds in KINDS.items() for kind in kinds])
def test_a_fault_in_any_layer_differs_there_and_nowhere_else(
    target: str, kind: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    copy = copy_bundle(shared_bundle(tmp_path_factory.getbasetemp(), target), tmp_path / "copy")
    fault = plant(copy, kind, SEED)
    assert fault is not None, "the files have tensors of that kind"
    differences = compare(copy).differences
    assert {each.network for each in differences} == {fault.network}
    if fault.module is not None:
        assert [each.module for each in differences] == [fault.module]


def test_a_scale_times_8_is_told_by_its_name_and_channels(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    copy = copy_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"), tmp_path / "copy")
    fault = plant(copy, "channel", 0)
    assert fault is not None
    [difference] = compare(copy).differences
    assert difference.said.startswith(f"scales of {fault.module}.weight: 1 of ")
    [row] = [row for row in make_rows(compare(copy)) if row.value]
    assert (row.component, row.value) == (fault.network, 1.0)
    assert row.note.startswith(f"first {fault.module}: scales of ")


def test_the_first_block_that_holds_a_wrong_layer_departs() -> None:
    blocks = [BlockError("transformer", f"blocks.{i}", i, 40.0, 0.01, 40.0, departs=i == 2) for i in range(11)]
    marked = mark_blocks(blocks, [Difference("transformer", "blocks.1.attn.to_q", "scales")])
    assert [each.block for each in marked if each.departs] == ["blocks.1"]
    assert [each.block for each in mark_blocks(blocks, []) if each.departs] == ["blocks.2"]
    later = mark_blocks(blocks, [Difference("transformer", "blocks.10.ff", "scales"), Difference("other", "blocks.0", "scales")])
    assert [each.block for each in later if each.departs] == ["blocks.2"], "blocks.1 is not where blocks.10 is"
