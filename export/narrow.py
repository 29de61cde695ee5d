"""Values that go into a file of 16 bits: what does not fit is refused here, for every exporter, and what vanishes is noted.

    float16   65504 is the largest finite value; below 3e-8 is zero
    bfloat16  3.4e38, as float32
A weight that is quantized has to fit too: the graph multiplies its integers by its scale, in 16 bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from sprint_export.errors import InputError

_vanished: ContextVar[dict[str, str] | None] = ContextVar("vanished", default=None)


@contextlib.contextmanager
def note_vanished() -> Iterator[dict[str, str]]:
    """Within, weights that become zero as a whole are collected: name -> a sentence about it."""
    notes: dict[str, str] = {}
    token = _vanished.set(notes)
    try:
        yield notes
    finally:
        _vanished.reset(token)


def narrow(value: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """The value in a graph's type, rounded to the nearest even.

    Args:
        value: finite.
        dtype: of the graph.
        name: the weight's, for messages.

    Raises:
        InputError: a finite value becomes infinite.
    """
    check_fits(value, dtype, name)
    return value.to(dtype)


def check_fits(value: torch.Tensor, dtype: torch.dtype, name: str) -> None:
    """Refuse a weight that `narrow` would; for weights that others cast. Rounding keeps order, so the largest value tells.

    Raises:
        InputError: a finite value would become infinite.
    """
    if not (dtype.is_floating_point and value.is_floating_point() and value.numel()) or dtype.itemsize == 1:
        return
    if torch.promote_types(value.dtype, dtype) == dtype:  # it holds all that the value's holds
        return
    low, high = value.aminmax()
    largest = torch.maximum(-low, high)
    cast = largest.to(dtype)
    if not torch.isfinite(cast):
        limit = f"{torch.finfo(dtype).max:.6g}"
        raise InputError(
            f"weight {name} has magnitude {largest.item():.4g}, a {str(dtype).removeprefix('torch.')} graph holds at "
            f"most {limit}; choose an fp32 or a bf16 target, or scale the weight in the student"
        )
    notes = _vanished.get()
    if notes is not None and not cast and largest:
        notes[name] = f"{name} is at most {largest.item():.1g} and zero in {str(dtype).removeprefix('torch.')}"
