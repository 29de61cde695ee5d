"""Counts of parameters at full size, on `meta`: the published ones, and what fixed times delete."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.twinflow_qwen.folds import DEAD, TIME_PATH
from sprint_export.weights import Handle

STOCK, SECOND = 20_430_401_088, 10_229_760
TIME, DEAD_TEXT = 6_836_324_352, 94_393_472


@cache
def load() -> Student:
    return load_student("random:twinflow-qwen-image")


def count(handles: Iterable[Handle]) -> int:
    return sum(math.prod(handle.shape) for handle in handles)


def test_counts_are_the_published_ones() -> None:
    found = {role: count(network.weights.values()) for role, network in load().components.items()}
    assert found == {"text_encoder": 7_070_619_136, "transformer": STOCK + SECOND, "vae_decoder": 126_892_531}
    assert load().latent_shape == (16, 128, 128)
    assert load().prompt.keep == 1024
    assert all(p.is_meta for network in load().components.values() for p in network.module.parameters())


def test_a_fixed_time_deletes_a_third() -> None:
    weights = load().components["transformer"].weights
    time = {name for name in weights if name.startswith(TIME_PATH) or "_mod.1." in name}
    dead = {name for name in weights if name.startswith(tuple(f"transformer_blocks.59.{each}" for each in DEAD))}
    assert count(weights[name] for name in time) == TIME
    assert count(weights[name] for name in dead) == DEAD_TEXT
    assert round(TIME / (STOCK + SECOND), 3) == 0.334
    for steps, tables in ((1, 1), (2, 2 + 2 * (12 * 60 + 2) * 3072)):
        folded = specialize_student(load(), steps, prompt_tokens=256).components["transformer"]
        rotations = 2 * (4096 + 256) * 64
        assert count(folded.weights.values()) == STOCK + SECOND - TIME - DEAD_TEXT + tables + rotations
        assert {name: tuple(p.shape) for name, p in folded.module.state_dict().items()} == {
            name: handle.shape for name, handle in folded.weights.items()
        }


def test_weights_are_made_when_they_are_pulled() -> None:
    handle = load().components["transformer"].weights["transformer_blocks.7.img_mlp.net.0.proj.weight"]
    value = handle.load()
    assert (value.dtype, tuple(value.shape)) == (handle.dtype, handle.shape)
    assert abs(value.float().std().item() * 3072**0.5 - 1) < 0.01
    assert not (value[0] == value[1]).all(), "the block of values is not a row"
