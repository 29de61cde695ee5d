"""When a block departs: by simulation no false alarm where two sides round independently, and every planted fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.validate.blocks.departure import NOISE, compare_values

Array = npt.NDArray[Any]

ROUNDING = 0.02  # of a value's size, as 8 bits do


def draw(seed: int, positions: int, channels: int) -> tuple[Array, np.random.Generator]:
    """Values whose channels differ in size by 100 times."""
    random = np.random.default_rng(seed)
    sizes = 10 ** random.uniform(-1, 1, channels)
    return (random.standard_normal((positions, channels)) * sizes).astype(np.float32), random


def disturb(value: Array, random: np.random.Generator, share: float) -> Array:
    """With an error of that share of each channel's size."""
    sizes = np.sqrt(np.square(value).mean(0))
    noisy: Array = (value + random.standard_normal(value.shape) * sizes * share).astype(np.float32)
    return noisy


@pytest.mark.parametrize("channels", [16, 192, 2240])
@pytest.mark.parametrize("positions", [16, 64])
def test_two_roundings_that_share_nothing_do_not_depart(positions: int, channels: int) -> None:
    for seed in range(40):
        value, random = draw(seed, positions, channels)
        rounded, exported = (disturb(value, random, ROUNDING) for _ in range(2))
        assert compare_values(exported, rounded, value).excess("fp32") < 0.9, f"seed {seed}"


@pytest.mark.parametrize("dtype", NOISE)
def test_arithmetic_in_the_graphs_type_does_not_depart(dtype: str) -> None:
    value, random = draw(0, 64, 192)
    noise = {"fp32": 2e-6, "fp16": 1e-3, "bf16": 8e-3}[dtype]  # twice the type's unit
    assert compare_values(disturb(value, random, noise), value, value).excess(dtype) < 0.5
    assert compare_values(disturb(value, random, 4 * NOISE[dtype]), value, value).excess(dtype) > 1


@pytest.mark.parametrize("channels", [16, 192, 2240])
def test_two_channels_that_changed_places_depart(channels: int) -> None:
    for seed in range(40):
        value, random = draw(seed, 64, channels)
        rounded, exported = (disturb(value, random, ROUNDING) for _ in range(2))
        largest = np.argsort(-np.abs(value).sum(0))[: channels // 2]
        first, second = random.choice(largest, 2, replace=False)
        exported[:, [first, second]] = exported[:, [second, first]]
        assert compare_values(exported, rounded, value).excess("fp32") > 1, f"seed {seed}"


def test_an_error_of_every_channel_departs() -> None:
    value, random = draw(0, 64, 192)
    rounded, exported = disturb(value, random, ROUNDING), disturb(value, random, 3 * ROUNDING)
    assert compare_values(exported, rounded, value).excess("fp32") > 1


def test_what_is_no_number_departs() -> None:
    value, random = draw(0, 64, 192)
    exported = value.copy()
    exported[3, 5] = np.nan
    found = compare_values(exported, disturb(value, random, ROUNDING), value)
    assert found.excess("fp32") == np.inf
    assert found.relative_error == np.inf


def test_equal_values_are_no_error() -> None:
    zeros = np.zeros((4, 4), np.float32)
    found = compare_values(zeros, zeros, zeros)
    assert (found.relative_error, found.excess("fp32")) == (0.0, 0.0)
