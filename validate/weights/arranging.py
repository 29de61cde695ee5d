"""Where a file's tensor may hold a piece of a weight: views of it in torch's arrangement, found from shapes and the first rows.

    axes in any order                 [out, in] as [in, out]; [out, in, 1, 1] as [1, 1, in, out]; [C] as [1, C, 1, 1]
    a window of one axis              half of a gated layer's rows; or, the other way round, several layers side by side
    an axis in two, or two in one     [H d] as [H, d, 1]; [in, out] as [blocks, values, out]; [out, blocks] as [out blocks]
    one tap                           w[:, u, v] of a depthwise [C, 3, 3]
    one number                        a scale of a whole weight, repeated for each column
Sizes of 1 count for nothing. A view is no copy, so that a mapped file is read as far as it is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MOST_TAPS = 49  # of a depthwise kernel: 7 x 7
MOST_PARTS = 16  # tensors that hold a weight together; a bias, as wide as its weight, is not one of a thousand
MATRIX, MOST_AXES = 2, 4
FEW = 8  # values of a line, and lines, that tell one place from another
NEAR = 0.01  # of their values


@dataclass(frozen=True)
class View:
    """A file's tensor, or a window of it, as that window of a piece that it may hold.

    Args:
        values: in the piece's arrangement.
        window: of the piece, one slice or index an axis; sizes of 1 are left out.
    """

    values: Array
    window: tuple[slice | int, ...]

    def count(self, shape: Sequence[int]) -> int:
        """How many of a piece's values it may hold."""
        empty = np.broadcast_to(np.int8(0), squeeze(shape))
        return int(np.asarray(empty[self.window]).size)


def squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    """Without sizes of 1."""
    return tuple(size for size in shape if size != 1)


def list_views(found: Array, shape: Sequence[int], first: Array) -> Iterator[View]:
    """How a file's tensor may hold a piece of this shape, whose first rows are `first` [rows, ...]."""
    values, wanted = np.squeeze(found), squeeze(shape)
    if not wanted:
        if values.size and values.ndim <= 1:
            yield View(values.reshape(-1), ())
    elif values.ndim == len(wanted) <= MOST_AXES:
        yield from _turn(values, shape, first)
    elif values.size == int(np.prod(wanted)) and values.ndim == len(wanted) + 1:
        for axis in range(values.ndim - 1):
            joined = values.reshape(*values.shape[:axis], -1, *values.shape[axis + 2 :])
            yield from _turn(joined, shape, first)
    elif values.ndim == 1 and len(wanted) == MATRIX and values.size % wanted[1] == 0:
        yield from _turn(values.reshape(-1, wanted[1]), shape, first)
    elif values.ndim == 1 and len(values) == wanted[0] and int(np.prod(wanted[1:])) <= MOST_TAPS:
        for tap in product(*map(range, wanted[1:])):
            yield View(values, (slice(None), *tap))


def squeeze_rows(shape: Sequence[int], whole: Sequence[int]) -> tuple[int, ...]:
    """The shape of some rows of a piece without the sizes of 1 that the whole piece has."""
    return tuple(size for size, full in zip(shape, whole, strict=True) if full != 1)


def _turn(values: Array, shape: Sequence[int], first: Array) -> Iterator[View]:
    """Its axes in every order that fits, one of them longer or shorter than the piece's at most."""
    wanted = squeeze(shape)
    for order in permutations(range(values.ndim)):
        turned = values.transpose(order)
        unlike = [axis for axis in range(len(wanted)) if turned.shape[axis] != wanted[axis]]
        if not unlike:
            yield View(turned, (slice(None),) * len(wanted))
        elif len(unlike) == 1:
            yield from _slide(turned, unlike[0], wanted, first.reshape(squeeze_rows(first.shape, shape)))


def _slide(turned: Array, axis: int, wanted: Sequence[int], first: Array) -> Iterator[View]:
    """Windows along one axis: of the file's tensor where it is longer, else of the piece."""
    count, length = wanted[axis], turned.shape[axis]
    if length > count:
        for start in _find_starts(turned, axis, count, first):
            inside = (*(slice(None),) * axis, slice(start, start + count))
            yield View(turned[inside], (slice(None),) * len(wanted))
    elif length and count % length == 0 and count // length <= MOST_PARTS:
        for start in range(0, count, length):
            yield View(turned, (*(slice(None),) * axis, slice(start, start + length), *(slice(None),) * (len(wanted) - axis - 1)))


def _find_starts(turned: Array, axis: int, count: int, first: Array) -> list[int]:
    """Where along the axis the first line of the piece may begin: its first values are those, or one step away in 8 bits."""
    line, wanted = _begin_lines(turned, axis), _begin_lines(first, axis)[:FEW]
    head = np.asarray(wanted[:, : line.shape[1]], np.float32)
    starts = np.flatnonzero(np.isclose(np.asarray(line[: len(line) - count + 1, 0], np.float32), head[0, 0], rtol=NEAR))
    for row, values in enumerate(head):  # of codes, thousands begin with the same one
        found = np.asarray(line[starts + row, : head.shape[1]], np.float32)
        starts = starts[np.isclose(found, values, rtol=NEAR).all(1)]
        if not len(starts):
            break
    return [int(start) for start in starts]


def _begin_lines(values: Array, axis: int) -> Array:
    """The first values of each line across an axis; of a matrix a view, since it may be large, and nothing of it is meant."""
    lines = np.moveaxis(values, axis, 0)
    return (lines if lines.ndim == MATRIX else lines.reshape(len(lines), -1))[:, :FEW]
