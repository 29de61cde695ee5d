"""Pictures, and what was drawn with them, as rows [B, ...]: at hand as an array, or in files that are read when asked for.

Whoever reads all rows reads a slice of `split_rows` at a time: a validation holds a bounded number of pictures, however many
there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sprint_export.errors import MachineError
from sprint_export.validate.kept import Kept

Array = npt.NDArray[Any]

AT_ONCE = 1 << 23  # values that are compared together: two pictures of 1024 px, as float64 64 MB


class Rows(Protocol):
    """An array is one; so are rows that lie on a disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all, the count of rows first."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, which: slice, /) -> Array:
        """Some of them that follow one another."""


@dataclass(frozen=True)
class KeptRows:
    """Rows that lie in files of the cache, one in each.

    Args:
        kept: reads them.
        paths: of the files.
        name: of the array in each.
        one: shape of a row.
        dtype: of all.
    """

    kept: Kept
    paths: tuple[Path, ...]
    name: str
    one: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """[B, ...]."""
        return (len(self.paths), *self.one)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, which: slice, /) -> Array:
        """Read from their files.

        Raises:
            MachineError: a file is not there any more, or damaged.
        """
        found = np.empty((len(self.paths[which]), *self.one), self.dtype)
        for row, path in enumerate(self.paths[which]):
            found[row] = read_kept(self.kept, path)[self.name]
        return found


@dataclass(frozen=True)
class JoinedRows:
    """Rows of several parts, one after the other; at least one part."""

    parts: tuple[Rows, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[B, ...]."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, which: slice, /) -> Array:
        """Of the parts that have them; the slice has no step."""
        start, stop, step = which.indices(len(self))
        assert step == 1, "rows that follow one another"
        found = []
        for part in self.parts:
            if start < len(part) and stop > 0:
                found.append(part[max(start, 0) : stop])
            start, stop = start - len(part), stop - len(part)
        return np.concatenate(found) if found else self.parts[0][:0]


def join_rows(first: Rows, later: Rows) -> Rows:
    """Both as one: an array where both are."""
    if isinstance(first, np.ndarray) and isinstance(later, np.ndarray):
        return np.concatenate([first, later])
    before = first.parts if isinstance(first, JoinedRows) else (first,)
    return JoinedRows((*before, later))


def split_rows(rows: Rows, at_once: int = AT_ONCE) -> Iterator[slice]:
    """Slices of rows with at most so many values each, and at least one row."""
    count = max(1, at_once // max(1, math.prod(rows.shape[1:])))
    yield from (slice(start, start + count) for start in range(0, len(rows), count))


def map_rows(compare: Callable[..., Array], *sides: Rows) -> Array:
    """What `compare` gives of all rows [B], some at a time: it takes as many arrays as there are sides, of equal rows.

    Raises:
        ValueError: one side has more rows than another.
    """
    counts = set(map(len, sides))
    if len(counts) > 1:
        raise ValueError(f"sides of {', '.join(str(len(side)) for side in sides)} rows; expected as many of each")
    parts = list(split_rows(sides[0]))
    if len(parts) < 2:
        return compare(*(side[:] for side in sides))
    return np.concatenate([compare(*(side[part] for side in sides)) for part in parts])


def take_row(rows: Rows, place: int) -> Array:
    """One of them."""
    row: Array = rows[place : place + 1][0]
    return row


def walk_rows(rows: Rows) -> Iterator[Array]:
    """Each of them, some read at a time."""
    for part in split_rows(rows):
        yield from rows[part]


def open_rows(kept: Kept, paths: Sequence[Path], names: Sequence[str]) -> tuple[list[KeptRows], Mapping[str, Array]]:
    """Arrays of these names that lie in files, and all that the first file holds.

    Raises:
        MachineError: it is not there, or damaged.
    """
    first = read_kept(kept, paths[0])
    return [KeptRows(kept, tuple(paths), name, first[name].shape, first[name].dtype) for name in names], first


def read_kept(kept: Kept, path: Path) -> Mapping[str, Array]:
    """What a file holds that was whole before.

    Raises:
        MachineError: it is not any more.
    """
    values = kept.read(path)
    if values is None:
        raise MachineError(
            f"{path} is not there any more, or damaged, though this run wrote or read it before; run the same command again: it "
            "draws what is missing"
        )
    return values
