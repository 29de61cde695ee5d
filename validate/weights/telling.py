"""What is wrong with a layer's tensors, in words that say how to look for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from sprint_export.validate.weights.meant import Meant
from sprint_export.validate.weights.search import Held, Piece, Trial

Array = npt.NDArray[Any]
NAMED = 4  # rows that a sentence names


def tell_missing(meant: Meant, piece: Piece) -> str:
    """That a piece is not in the file, and what is there in its place."""
    nearest = min(piece.trials, key=lambda trial: len(trial.wrong), default=None)
    if nearest is None or len(nearest.wrong) == nearest.seen == 0:
        return f"the file holds no {piece.kind} of {meant.name}, {_say_shape(piece.shape)}"
    return f"{piece.kind} of {meant.name}: {_say_rows(nearest)} not what quantization gives ({nearest.held.tensor.name})"


def tell_beside(held: Held) -> str | None:
    """That a layer's tensor holds what nobody meant; None where it is nothing but zeros, as zero points are, or ones."""
    values = held.read()
    held.forget()
    if not values.size or _is_one_number(values):
        return None
    return f"{held.tensor.name}, {_say_shape(held.tensor.shape)}, holds what is no part of this layer"


def _is_one_number(values: Array) -> bool:
    first = values.reshape(-1)[0]
    return float(first) in (0.0, 1.0) and bool((values == first).all())


def _say_rows(trial: Trial) -> str:
    count, rows = len(trial.wrong), ", ".join(map(str, trial.wrong[:NAMED]))
    which = f" (channels {rows}{', ...' if count > NAMED else ''})" if count < trial.seen else ""
    return f"{count} of {trial.seen} channels are{which}"


def _say_shape(shape: Sequence[int]) -> str:
    return f"shape {list(shape)}"
