"""Where a file's tensor may hold a piece, and what counts as the same values, by small arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.validate.weights.arranging import list_views
from sprint_export.validate.weights.fitting import fit_codes, fit_numbers

WEIGHT = np.arange(24, dtype=np.int8).reshape(4, 6) * 3 % 23
WHOLE = str((slice(None), slice(None)))
TAPS = np.random.default_rng(0).normal(size=(5, 1, 3, 3)).astype(np.float32)


def holds(found: npt.NDArray[Any], piece: npt.NDArray[Any]) -> set[str]:
    """Windows of the piece that a view of the tensor is equal to."""
    squeezed = piece.squeeze()
    views = list_views(found, piece.shape, piece)
    return {str(each.window) for each in views if np.array_equal(each.values, squeezed[each.window])}


@pytest.mark.parametrize(
    "found",
    [WEIGHT, WEIGHT.T, WEIGHT.T[None, None], WEIGHT.reshape(4, 3, 2), WEIGHT.T.reshape(3, 2, 4), WEIGHT.reshape(-1)],
    ids=["as torch has it", "transposed", "a convolution's", "in blocks", "blocks first", "flat"],
)
def test_a_weight_is_found_in_every_arrangement(found: npt.NDArray[Any]) -> None:
    assert holds(found, WEIGHT) == {WHOLE}


def test_parts_are_found_at_their_rows_and_taps_at_their_place() -> None:
    assert holds(WEIGHT[2:], WEIGHT) == {str((slice(2, 4), slice(None)))}
    assert holds(TAPS[:, :, 1, 2].reshape(1, 1, 1, 5), TAPS) == {str((slice(None), 1, 2))}


def test_a_layer_is_found_among_others_beside_it() -> None:
    others = np.full((6, 3), 99, np.int8)
    assert holds(np.concatenate([others, WEIGHT.T, others], axis=1), WEIGHT) == {WHOLE}


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3)])
def test_channels_that_changed_places_are_no_arrangement(order: tuple[int, ...]) -> None:
    assert holds(WEIGHT[list(order)], WEIGHT) == set()
    assert holds(np.ascontiguousarray(WEIGHT[list(order)].T), WEIGHT) == set()


def test_a_last_digit_is_no_difference_and_a_zero_point_is_one() -> None:
    codes = np.random.default_rng(1).integers(-120, 120, (3, 200)).astype(np.int8)
    moved = codes.copy()
    moved[0, :3] += 1
    assert fit_codes(moved, codes).tolist() == [True] * 3
    assert fit_codes(codes + np.int8(1), codes).tolist() == [False] * 3
    swapped = codes[:, [1, 0, *range(2, 200)]]
    assert not fit_codes(swapped, codes).any()


@pytest.mark.parametrize(("dtype", "step"), [("fp32", 2.0**-23), ("fp16", 2.0**-10), ("bf16", 2.0**-7)])
def test_numbers_may_be_a_unit_apart(dtype: str, step: float) -> None:
    numbers = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    assert fit_numbers(numbers * (1 + step), numbers, dtype).all()
    assert not fit_numbers(numbers * (1 + 64 * step), numbers, dtype).any()
