"""One weight of a student looked for among the tensors of a file: piece by piece, every way that it may be held there.

A piece is there when views of the file's tensors that hold what is meant cover all of it. What a layer's own tensors hold beside
that is told too: it is something that nobody meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.runtimes.stored_tensors import StoredTensor
from sprint_export.validate.weights.arranging import View, list_views, squeeze, squeeze_rows
from sprint_export.validate.weights.fitting import fit_codes, fit_numbers
from sprint_export.validate.weights.meant import CODES, LIFT, LIFTED, SCALE, VALUE, Meant

Array = npt.NDArray[Any]


@dataclass
class Held:
    """A file's tensor while it is searched: its values, read once, and whether some of them were meant."""

    tensor: StoredTensor
    is_meant: bool = False
    _values: Array | None = None

    def read(self) -> Array:
        """Its values."""
        if self._values is None:
            self._values = self.tensor.load()
        return self._values

    def forget(self) -> None:
        """Let go of them."""
        self._values = None

    def forget_copy(self) -> None:
        """Let go of them unless they are mapped: then no more of them is in memory than was looked at."""
        if not isinstance(self._values, np.memmap):
            self._values = None


@dataclass
class Trial:
    """One way in which a tensor may hold a piece, as long as nothing speaks against it.

    Args:
        held: the tensor.
        view: of it.
        wrong: rows that are not what is meant, by their place in the piece; empty as long as all are.
        seen: how many rows were compared.
    """

    held: Held
    view: View
    wrong: list[int] = field(default_factory=list)
    seen: int = 0


@dataclass
class Piece:
    """One piece of a weight: its shape, and what may hold it."""

    kind: str
    shape: tuple[int, ...]
    trials: list[Trial]

    @property
    def is_there(self) -> bool:
        """Whether what is right covers all of it."""
        right = {str(each.view.window): each.view.count(self.shape) for each in self.trials if each.seen and not each.wrong}
        return sum(right.values()) >= int(np.prod(self.shape)) or self.is_nothing

    is_nothing: bool = False  # zeros or ones throughout: a graph may leave them out
    has_signs: bool = True  # False: another library packs it, whose last digits decide signs of blocks and codes of tiny rows


MATRIX = 2  # axes
SMALL = 1 << 18  # values of a piece that is also looked for where its layer's name does not stand
TINY = 2.0**-14  # the smallest normal number of half precision
UNLIKE = 4096  # values of a piece that no second tensor begins with
FIRST = 256  # values that are compared before a tensor of another name is looked at further


class Search:
    """The tensors of a file, looked through for one weight at a time.

    Args:
        tensors: all.
        dtype: what the graph computes in.
    """

    def __init__(self, tensors: Iterable[Held], dtype: str) -> None:
        self._dtype, self._by_size = dtype, dict[tuple[bool, int], list[Held]]()
        self._wide: list[Held] = []
        for held in tensors:
            self._by_size.setdefault((held.tensor.is_code, int(np.prod(held.tensor.shape))), []).append(held)
            if len(squeeze(held.tensor.shape)) > 0:
                self._wide.append(held)

    def find(self, meant: Meant, own: Sequence[Held]) -> list[Piece]:
        """The pieces of a weight, each with what may hold it; `own` are tensors that have the layer's name."""
        pieces = self._compare(meant, own, is_elsewhere=False)
        if any(not piece.is_there and int(np.prod(piece.shape)) <= SMALL for piece in pieces.values()):
            elsewhere = self._compare(meant, (), is_elsewhere=True)
            pieces = {kind: elsewhere[kind] if elsewhere[kind].is_there else piece for kind, piece in pieces.items()}
        for piece in pieces.values():
            for trial in piece.trials:
                trial.held.is_meant |= bool(trial.seen) and not trial.wrong
                trial.held.forget()
        return _choose_form(pieces)

    def _compare(self, meant: Meant, own: Sequence[Held], is_elsewhere: bool) -> dict[str, Piece]:
        pieces: dict[str, Piece] = {}
        start = 0
        for parts in meant.read_pieces():
            rows = len(next(iter(parts.values()))) if parts and meant.handle.shape else 1
            for kind, part in parts.items():
                if kind not in pieces:
                    pieces[kind] = piece = begin_piece(kind, meant, part, rows)
                    if not is_elsewhere:
                        piece.trials = _list_trials(piece, own, part)
                    if not piece.trials:
                        piece.trials = _list_trials(piece, self._list_others(piece, meant.module), part, is_sure=False)
                for trial in pieces[kind].trials:
                    _try(trial, pieces[kind], part, start, self._dtype)
            start += rows
        return pieces

    def _list_others(self, piece: Piece, module: str) -> Iterator[Held]:
        """Tensors without the layer's name: as large, or wider, where several layers lie side by side; its neighbours first."""
        size, wanted = int(np.prod(piece.shape)), sorted(squeeze(piece.shape))
        if size <= SMALL:
            yield from self._by_size.get((piece.kind == CODES, size), [])
            if len(wanted) > MATRIX and len(squeeze(piece.shape)) < len(piece.shape):  # depthwise: its taps apart
                yield from self._by_size.get((piece.kind == CODES, piece.shape[0]), [])
        for held in sorted(self._wide, key=lambda held: -count_alike(held.tensor.name, module)):
            found = sorted(squeeze(held.tensor.shape))
            is_wider = len(found) == len(wanted) and sum(found) > sum(wanted) and len(set(found) - set(wanted)) <= 1
            if held.tensor.is_code == (piece.kind == CODES) and is_wider:
                yield held


def count_alike(one: str, other: str) -> int:
    """How many letters two names have in common from their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _choose_form(pieces: dict[str, Piece]) -> list[Piece]:
    """The pieces that a file must hold: scales as they are, or times powers of two with these beside them, not both."""
    lifted = [pieces[kind] for kind in (LIFTED, LIFT) if kind in pieces]
    is_lifted = bool(lifted) and any(piece.is_there for piece in lifted) and not pieces[SCALE].is_there
    left_out = ((SCALE,) if is_lifted else (LIFTED, LIFT)) if lifted else ()
    return [piece for kind, piece in pieces.items() if kind not in left_out]


def begin_piece(kind: str, meant: Meant, part: Array, rows: int) -> Piece:
    """A piece of a weight whose first rows these are."""
    has_rows = bool(part.ndim and meant.handle.shape and len(part) == rows)
    shape = (meant.handle.shape[0], *part.shape[1:]) if has_rows else part.shape
    is_one = kind != CODES and bool(part.size) and bool((part == part.flat[0]).all())
    is_nothing = is_one and part.flat[0] in (0.0, 1.0) and tuple(shape) == part.shape
    return Piece(kind, tuple(shape), [], is_nothing, meant.has_signs or kind == VALUE)


def _list_trials(piece: Piece, tensors: Iterable[Held], first: Array, is_sure: bool = True) -> list[Trial]:
    """Every way in which one of these may hold a piece; unless `is_sure`, those only that begin with its first values."""
    trials = []
    for held in tensors:
        if held.tensor.is_code == (piece.kind == CODES):
            views = list(list_views(held.read(), piece.shape, first))
            alike = [view for view in views if _begins_alike(view, piece, first)]
            trials += [Trial(held, view) for view in alike or (views if is_sure else ())]
            if not is_sure and (not trials or trials[-1].held is not held):
                held.forget_copy()
            elif not is_sure and trials[-1].view.count(piece.shape) >= max(UNLIKE, int(np.prod(piece.shape))):
                break  # the whole piece, not one of a depthwise kernel's taps
    return trials


def _begins_alike(view: View, piece: Piece, first: Array) -> bool:
    overlap = _take(view, piece, first, 0)
    if overlap is None:
        return True
    ours, theirs = (np.asarray(each.reshape(-1)[:FIRST], np.float32) for each in overlap)
    return bool(np.allclose(np.abs(ours), np.abs(theirs), rtol=0.05, atol=1.0 if piece.kind == CODES else 1e-6))


def _try(trial: Trial, piece: Piece, part: Array, start: int, dtype: str) -> None:
    overlap = _take(trial.view, piece, part, start)
    if overlap is None:
        return
    overlap = overlap if piece.has_signs else _forget_digits(*overlap)
    fits = fit_codes(*overlap, piece.has_signs) if piece.kind == CODES else fit_numbers(*overlap, dtype)
    trial.wrong += [trial.seen + int(row) for row in np.flatnonzero(~fits)]
    trial.seen += len(fits)


def _forget_digits(found: Array, wanted: Array) -> tuple[Array, Array]:
    """Magnitudes; the 1 that stands for the scale of a block of nothing is whatever tiny number another library has there."""
    ours, theirs = np.abs(found), np.abs(wanted)
    is_nothing = (theirs == 1) & (ours < TINY) if np.issubdtype(theirs.dtype, np.floating) else np.bool_(False)
    return ours, np.where(is_nothing, ours, theirs)


def _take(view: View, piece: Piece, part: Array, start: int) -> tuple[Array, Array] | None:
    """What a view holds of these rows of a piece, and the rows; None: it holds none of them."""
    shape = squeeze(piece.shape)
    if not shape:
        return view.values, np.broadcast_to(part.reshape(-1), view.values.shape)
    rows = part.reshape(squeeze_rows(part.shape, piece.shape))
    window, *rest = view.window
    assert isinstance(window, slice), "rows come in windows"
    begin, end, _ = window.indices(shape[0])
    low, high = max(begin, start), min(end, start + len(rows))
    if low >= high:
        return None
    inner = tuple(rest)
    return view.values[low - begin : high - begin], rows[(slice(low - start, high - start), *inner)]
