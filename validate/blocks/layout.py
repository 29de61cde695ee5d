"""One value in two layouts, as matrices [positions, channels] that can be compared.

PyTorch gives tokens [B, N, D] or a picture [B, C, h, w]; a graph holds the same value as [B, N, D], [B, D, N], [B, h, w, D],
[B, D, h, w] or [B, D, 1, N]. Positions are in the same order in all of them, so the axis of the channels is all there is to find.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.runtimes.inner_values import Sample

Array = npt.NDArray[Any]
PICTURE = 4  # axes [B, C, h, w]
MOST_VALUES = 1 << 18  # of one value that are compared: 1 MB


@dataclass(frozen=True)
class Layout:
    """A graph's value as a matrix: which axis its channels are, and every how many slices of which other axis are taken.

    Args:
        value: its name.
        shape: in the graph.
        channels: the axis.
        axis: the one that is thinned.
        step: 1 where none is.
    """

    value: str
    shape: tuple[int, ...]
    channels: int
    axis: int = 0
    step: int = 1

    @property
    def sample(self) -> Sample:
        """What is asked of the graph."""
        return Sample(self.value, self.axis, self.step)

    def arrange(self, value: Array) -> Array:
        """The sampled value -> float32 [positions, channels]."""
        moved = np.moveaxis(value, self.channels, -1)
        return np.ascontiguousarray(moved, np.float32).reshape(-1, moved.shape[-1])

    def fits(self, matrix: Array) -> bool:
        """Whether an arranged value has the positions and channels that it must: where sizes are free, they were filled in."""
        sizes = (
            -(-size // self.step) if axis == self.axis else size for axis, size in enumerate(self.shape) if axis != self.channels
        )
        return matrix.shape == (math.prod(sizes), self.shape[self.channels])

    def list_positions(self) -> npt.NDArray[np.int64]:
        """Which positions of the whole value the sampled one has, in order."""
        whole = [size for axis, size in enumerate(self.shape) if axis != self.channels]
        numbers = np.arange(int(np.prod(whole)), dtype=np.int64).reshape(whole)
        axis = self.axis - (self.axis > self.channels)
        return np.take(numbers, range(0, whole[axis], self.step), axis).reshape(-1) if whole else numbers.reshape(-1)


def list_layouts(name: str, shape: Sequence[int | None], wanted: Sequence[int]) -> Iterator[Layout]:
    """How a graph's value may hold PyTorch's of shape `wanted`: one for each axis that has as many channels."""
    sizes = _fill(shape, wanted)
    channels = wanted[find_channels(len(wanted))]
    if sizes is None or len(sizes) < 2:
        return
    for axis, size in enumerate(sizes):
        if size == channels:
            others = [other for other in range(len(sizes)) if other != axis]
            longest = max(others, key=lambda other: sizes[other])
            step = max(1, min(sizes[longest], -(-int(np.prod(sizes)) // MOST_VALUES)))
            if step == 1 or not _is_guessed(shape, wanted):
                yield Layout(name, sizes, axis, longest, step)


def find_channels(axes: int) -> int:
    """The axis of the channels of what a PyTorch module gives: the second of a picture, else the last."""
    return 1 if axes == PICTURE else axes - 1


def arrange_torch(value: Array, positions: npt.NDArray[np.int64] | None = None) -> Array:
    """What a PyTorch module gives -> [positions, channels]; of these positions alone, where any are named.

    No more than those is copied: a decoder's block gives half a gigabyte.
    """
    channels = find_channels(value.ndim)
    flat = value.reshape(*value.shape[: channels + 1], -1) if channels == 1 else value.reshape(-1, value.shape[-1], 1)
    picture, place = np.divmod(np.arange(value.size // value.shape[channels]) if positions is None else positions, flat.shape[2])
    taken: Array = flat[picture, :, place]
    return taken


def _fill(shape: Sequence[int | None], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """A shape with its free sizes filled in so that it has as many values; None where it cannot."""
    known, total = int(np.prod([size for size in shape if size is not None])), int(np.prod(wanted))
    rest, free = total // max(1, known), sum(size is None for size in shape)
    sides = {0: (), 1: (rest,), 2: tuple(wanted[2:]) if len(wanted) == PICTURE else (1, rest)}.get(free)
    if sides is None or known * int(np.prod(sides)) != total:
        return None
    waiting = iter(sides)
    return tuple(next(waiting) if size is None else size for size in shape)


def _is_guessed(shape: Sequence[int | None], wanted: Sequence[int]) -> bool:
    """Whether two free sizes were filled in by their product alone, which is enough to compare all positions but not some."""
    return sum(size is None for size in shape) > 1 and len(wanted) != PICTURE
