"""When calibration has seen enough: on planted maxima, and on a student whose networks settle at different prompts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.cache import cache_folder
from sprint_export.nouns.student import Student
from sprint_export.progress import Step
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.measure import calibrate as calibrating
from sprint_export.quantize.measure import walk
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.measure.settling import FEWEST, GROWTH, SMOOTHED_GROWTH, Maxima, has_settled, list_rounds
from sprint_export.quantize.measure.streaming import StreamedNetwork
from sprint_export.specialize import specialize_student
from tests.made_student import PROMPTS
from tests.tree import ROLES

MANY = tuple(f"{PROMPTS[i % 2]} {'the ' * (i // 2)}".strip() for i in range(12))


def see(*chunks: list[float]) -> list[Maxima]:
    """Chunks of two prompts, then two, then as many as went before, of one layer `a` with these largest values by channel."""
    stops = [2, 4, 8, 16, 32]
    return [Maxima(stop, {"a": torch.tensor(values)}) for stop, values in zip(stops, chunks, strict=False)]


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (1, [[(0, 1)]]),
        (2, [[(0, 2)]]),
        (3, [[(0, 2), (2, 3)]]),
        (4, [[(0, 2), (2, 4)]]),
        (6, [[(0, 2), (2, 4)], [(4, 6)]]),
        (32, [[(0, 2), (2, 4)], [(4, 8)], [(8, 16)], [(16, 32)]]),
    ],
)
def test_rounds_double(count: int, wanted: list[list[tuple[int, int]]]) -> None:
    assert [[(part.start, part.stop) for part in parts] for parts in list_rounds(count)] == wanted


def test_nothing_has_settled_before_it_was_seen_twice() -> None:
    assert not has_settled([], ())
    assert not has_settled(see([1.0]), ())
    assert not has_settled([Maxima(FEWEST - 1, {"a": torch.ones(1)})], ())


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_a_range_that_grows_by_more_than_its_share_has_not_settled(size: float) -> None:
    within, beyond = size * (1 + GROWTH) * 0.999, size * (1 + GROWTH) * 1.001
    assert has_settled(see([size, 0.0], [within, within]), ())
    assert not has_settled(see([size, 0.0], [0.0, beyond]), ())
    assert has_settled(see([size, 0.0], [0.0, beyond], [beyond, 0.0]), ()), "the next round showed no more"
    assert not has_settled(see([size, 0.0], [0.0, 0.0], [beyond, 0.0]), ()), "the next round did"


def test_a_rare_channel_counts_where_smoothing_divides_it() -> None:
    """100 and 1 are divided by 10 and 1: the rare channel may grow to 10 (1 + SMOOTHED_GROWTH), though its range is 100."""
    within, beyond = 10 * (1 + SMOOTHED_GROWTH) * 0.999, 10 * (1 + SMOOTHED_GROWTH) * 1.001
    assert has_settled(see([100.0, 1.0], [100.0, within]), {"a"})
    assert not has_settled(see([100.0, 1.0], [100.0, beyond]), {"a"})
    assert has_settled(see([100.0, 1.0], [100.0, beyond]), {"b"}), "nothing divides it"


def test_a_channel_that_was_dead_is_divided_as_the_median_is() -> None:
    assert has_settled(see([4.0, 4.0, 4.0, 0.0], [4.0, 4.0, 4.0, 3.9]), {"a"})
    assert not has_settled(see([4.0, 0.04, 0.04, 0.0], [4.0, 0.04, 0.04, 3.9]), {"a"})


def test_a_layer_that_reads_nothing_but_zeros_has_settled() -> None:
    assert has_settled(see([0.0, 0.0], [0.0, 0.0]), {"a"})
    assert not has_settled(see([0.0, 0.0], [0.0, 1e-30]), {"a"})


@pytest.fixture
def student(made: Student) -> Student:
    return specialize_student(made)


def settle_after(monkeypatch: pytest.MonkeyPatch, enough: Mapping[str, int]) -> dict[str, int]:
    """Let networks settle after so many prompts; the prompts that run through each are counted in what is returned."""
    ran = dict.fromkeys(ROLES, 0)

    def settled(chunks: Sequence[Maxima], _: object) -> bool:
        return bool(chunks) and chunks[-1].stop >= enough[next(iter(chunks[0].largest)).partition(".")[0]]

    class Counted(StreamedNetwork):
        def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            ran[self.component.role] += len(next(iter(feeds.values())))
            return super().run(feeds)

    monkeypatch.setattr(calibrating, "has_settled", settled)
    monkeypatch.setattr(walk, "StreamedNetwork", Counted)
    return ran


def count_prompts(records: Mapping[str, Record]) -> dict[str, int]:
    """How many prompts networks of pictures were recorded with: 16 x 16 rows each."""
    layers = {"transformer": "transformer.proj_out", "vae_decoder": "vae_decoder.decoder.conv_in"}
    return {role: records[layer].rows // 256 for role, layer in layers.items()}


@pytest.mark.usefixtures("own_cache")
def test_a_network_that_settled_runs_on_for_those_behind_it(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = settle_after(monkeypatch, {"text_encoder": 4, "transformer": 8, "vae_decoder": 99})
    records = calibrate(student, MANY, 0)
    assert ran == dict.fromkeys(ROLES, 12)
    assert count_prompts(records) == {"transformer": 8, "vae_decoder": 12}
    ids = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(MANY)[0]
    assert records["text_encoder.model.layers.0.mlp.gate_proj"].rows == (ids[:4] != student.prompt.pad_id).sum()


@pytest.mark.usefixtures("own_cache")
def test_a_network_does_not_run_for_those_before_it(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = settle_after(monkeypatch, {"text_encoder": 99, "transformer": 8, "vae_decoder": 4})
    told: list[tuple[Step, int, int]] = []
    records = calibrate(student, MANY, 0, lambda *event: told.append(event))
    assert ran == {"text_encoder": 12, "transformer": 8, "vae_decoder": 4}
    assert count_prompts(records) == {"transformer": 8, "vae_decoder": 4}
    assert sorted({total for _, _, total in told}) == [12, 20, 24], "what is sure to run"
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (24, 24)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("finished", [3, 13, 17, 21])
def test_a_run_that_was_killed_in_any_round_ends_the_same(
    student: Student, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    """Chunks of one prompt: 12 in the first round, 8 in the second, where the decoder has settled, 4 texts in the last."""
    monkeypatch.setattr(walk, "count_rows_at_once", lambda _: 1)
    enough = {"text_encoder": 99, "transformer": 8, "vae_decoder": 4}
    settle_after(monkeypatch, enough)
    wanted = calibrate(student, MANY, 0)
    shutil.rmtree(cache_folder())

    def kill(_: Step, done: int, __: int) -> None:
        if done == finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(student, MANY, 0, kill)
    ran = settle_after(monkeypatch, enough)
    found = calibrate(student, MANY, 0)
    assert sum(ran.values()) == 24 - finished
    assert found.keys() == wanted.keys()
    for layer, record in wanted.items():
        assert torch.equal(found[layer].amax, record.amax), layer
        assert torch.equal(found[layer].total, record.total), layer
        assert torch.equal(found[layer].counts, record.counts), layer
    assert [path.suffix for path in (cache_folder() / "calibration").iterdir()] == [".safetensors"]


def test_of_a_large_picture_a_local_network_is_shown_a_quarter(
    student: Student, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    """Another one for each prompt, where nothing behind reads what it writes; the transformer sees all."""
    whole = calibrate(student, MANY[:4], 0)
    shutil.rmtree(cache_folder())
    monkeypatch.setattr(walk, "LARGE_LATENTS", 1023)  # 4 x 16 x 16 is one more
    quarters = calibrate(student, MANY[:4], 0)
    for layer, record in whole.items():
        if layer.startswith("vae_decoder") and layer.endswith(("conv_in", "conv1", "to_qkv")):
            assert 4 * quarters[layer].rows == record.rows, layer
            assert not torch.equal(quarters[layer].amax, record.amax), layer
        elif not layer.startswith("vae_decoder"):
            assert torch.equal(quarters[layer].amax, record.amax), layer


def test_quarters_go_round_a_picture() -> None:
    state = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    cuts = [walk.cut_quarter(state, i) for i in range(5)]
    assert [cut[0, 0, 0] for cut in cuts] == [0, 3, 12, 15, 0]
    assert all(cut.shape == (2, 2, 3) for cut in cuts)
