"""Tensors as a graph's file holds them, for a validation that asks whether they are what quantization meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Args:
        name: as the file has it; a weight's begins with its module's path, in the format's own spelling.
        shape: as the file has it, or in torch's order where the reader undid an arrangement.
        is_code: whole numbers or 8-bit floats, which stand for a value only together with a scale or a table.
        load: the values, read anew each time; 4-bit codes one to an int8, what the runtime's operators pack taken apart.
        place: where its bytes lie, so that what two graphs share is compared once; None: in the graph itself.
    """

    name: str
    shape: tuple[int, ...]
    is_code: bool
    load: Callable[[], Array]
    place: tuple[str, int] | None = None
