"""compare_blocks on real bundles: right ones do not depart, and a planted fault is found at its own block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import BlockError
from sprint_export.progress import quiet
from sprint_export.runtimes.inner_values import InnerGraph, Sample
from sprint_export.runtimes.open import choose_runtime, open_inner
from sprint_export.runtimes.runtime import Runtime, load_runtime
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.validate import validate_bundle
from sprint_export.validate.blocks.compare import Feeds, Found, Sides, compare_blocks
from sprint_export.validate.portions import make_draws
from sprint_export.validate.side_by_side import draw_rounded
from tests.bundles import copy_bundle, shared_bundle
from tests.planted_faults import change_prefix, scale_weight, swap_channels

TARGETS = ("onnx-int8", "trt-fp8", "coreml-int8")
BLOCKS = [f"transformer_blocks.{i}" for i in range(4)]
DECODER = [f"decoder.up_blocks.{name}" for name in ("3.0", "2.0", "2.1", "1.0", "1.1")]
STUDENT = load_student("sprint-tiny")
PROMPTS = STUDENT.validation_prompts[:2]


@pytest.fixture(scope="module", params=TARGETS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right bundle."""
    return shared_bundle(tmp_path_factory.getbasetemp(), request.param)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right bundle for ONNX Runtime."""
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


def find_feeds(bundle: Bundle) -> Feeds:
    """What torch's networks are given at the first prompt."""
    networks = {record.role: record for record in bundle.components}
    draws = make_draws(specialize_like(STUDENT, bundle), networks, PROMPTS[:1])
    return {role: trace.feeds[0] for role, trace in draw_rounded(bundle, STUDENT, draws, quiet).traces.items() if trace.feeds}


def compare(folder: Path) -> Found:
    """As a validation does."""
    bundle = read_bundle(folder)
    return compare_blocks(take_sides(bundle, choose_runtime(bundle, None)), find_feeds(bundle))


def take_sides(bundle: Bundle, runtime: Runtime) -> Sides:
    """A bundle and the student it was made from."""
    return Sides(bundle, specialize_like(STUDENT, bundle), runtime)


def list_departing(found: Found) -> list[tuple[str, str]]:
    """(network, block) of each."""
    return [(each.network, each.block) for each in found.blocks if each.departs]


def test_every_block_of_a_right_bundle_is_compared_and_none_departs(folder: Path) -> None:
    found = compare(folder)
    assert list_departing(found) == []
    assert found.unchecked == []
    names = {
        network: [each.block for each in found.blocks if each.network == network] for network in ("transformer", "vae_decoder")
    }
    assert [name for name in names["transformer"] if name in BLOCKS] == BLOCKS
    assert [name for name in names["vae_decoder"] if name in DECODER] == DECODER, "in the order they run"
    assert (names["transformer"][-1], names["vae_decoder"][-1]) == ("denoised", "image"), "what a network gives comes last"
    for each in found.blocks:
        if each.block in (*BLOCKS, *DECODER):
            assert each.rounded_psnr_db is not None
            assert abs(each.psnr_db - each.rounded_psnr_db) < 1, each
            assert 0 < each.relative_error < 0.1, each


@pytest.mark.parametrize("block", [0, 2])
def test_a_scale_times_8_departs_at_its_block(folder: Path, block: int, tmp_path: Path) -> None:
    copy = scale_weight(copy_bundle(folder, tmp_path / "copy"), "transformer", f"transformer_blocks.{block}.attn1.to_out.0")
    assert list_departing(compare(copy)) == [("transformer", f"transformer_blocks.{block}")]


def test_two_channels_that_changed_places_depart_at_their_block(folder: Path, tmp_path: Path) -> None:
    copy = swap_channels(copy_bundle(folder, tmp_path / "copy"), "transformer", "transformer_blocks.2.ff.conv_point", 480)
    assert list_departing(compare(copy)) == [("transformer", "transformer_blocks.2")]


def test_another_prefix_departs_at_the_ids(int8: Path, tmp_path: Path) -> None:
    copy = change_prefix(copy_bundle(int8, tmp_path / "copy"), "Given", "Gives")
    report = validate_bundle(copy, STUDENT, count=1)
    departing = [(each.network, each.block) for each in report.blocks if each.departs]
    assert departing == [("prompt", "ids")], "each network is right on what it is given"
    assert 0 < report.blocks[0].relative_error < 1
    verdicts = {(row.metric, row.component): row.verdict for row in report.rows if row.limit}
    assert verdicts["differing_ids_percent", ""] == verdicts["psnr_db", ""] == "not met"


def test_a_fault_too_small_for_the_pictures_is_not_met(int8: Path, tmp_path: Path) -> None:
    copy = swap_channels(copy_bundle(int8, tmp_path / "copy"), "transformer", "transformer_blocks.2.ff.conv_point", 480)
    report = validate_bundle(copy, STUDENT, count=1)
    verdicts = {(row.metric, row.component): row.verdict for row in report.rows if row.limit}
    [psnr] = (row.value for row in report.rows if row.metric == "psnr_db")
    assert psnr > 40, "far above the gate of 8 bits"
    assert verdicts["departing_blocks", "transformer"] == "not met"
    assert verdicts["departing_blocks", "vae_decoder"] == verdicts["differing_ids_percent", ""] == "met"
    assert report.verdict == "not met"
    assert any(isinstance(each, BlockError) and each.departs for each in report.blocks)


def test_a_runtime_that_shows_nothing_inside_says_so(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_bundle(int8)
    feeds = {"vae_decoder": find_feeds(bundle)["vae_decoder"]}
    blind = load_runtime("coreai")
    read_elsewhere = compare_blocks(take_sides(bundle, blind), feeds)
    assert [each.block for each in read_elsewhere.blocks if each.block in DECODER] == DECODER
    [said] = read_elsewhere.unchecked
    assert said.startswith("blocks of vae_decoder: coreai shows no values inside a network; they were read on ONNX Runtime")
    monkeypatch.setattr("sprint_export.validate.blocks.compare.load_runtime", lambda name: blind)
    found = compare_blocks(take_sides(bundle, blind), feeds)
    assert found.blocks == []
    assert found.unchecked == ["blocks of vae_decoder: coreai shows no values inside a network"]


@pytest.mark.parametrize("target", [*TARGETS, "openvino-int8"])
def test_a_thinned_value_is_a_part_of_the_whole_one(target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = read_bundle(shared_bundle(tmp_path_factory.getbasetemp(), target))
    graph: InnerGraph = open_inner(bundle, choose_runtime(bundle, None), "vae_decoder")
    name = max(graph.shapes, key=lambda name: int(np.prod([size or 1 for size in graph.shapes[name]])))
    axis = len(graph.shapes[name]) - 1
    [whole, few], outputs = graph.run(find_feeds(bundle)["vae_decoder"], [Sample(name), Sample(name, axis, 3)])
    assert whole.shape == graph.shapes[name]
    np.testing.assert_array_equal(few, whole[..., ::3])
    assert set(outputs) == {"image"}
    assert few.dtype == np.float32
