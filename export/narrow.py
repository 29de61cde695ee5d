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
    cast = value.to(dtype)
    if not cast.is_floating_point() or cast.element_size() == 1 or cast.dtype == value.dtype or not cast.numel():
        return cast
    if not torch.isfinite(cast).all():
        limit = f"{torch.finfo(dtype).max:.6g}"
        raise InputError(
            f"weight {name} has magnitude {value.abs().max().item():.4g}, a {str(dtype).removeprefix('torch.')} graph holds at "
            f"most {limit}; choose an fp32 or a bf16 target, or scale the weight in the student"
        )
    notes = _vanished.get()
    if notes is not None and not cast.any() and value.any():
        largest = value.abs().max().item()
        notes[name] = f"{name} is at most {largest:.1g} and zero in {str(dtype).removeprefix('torch.')}"
    return cast


def check_fits(value: torch.Tensor, dtype: torch.dtype, name: str) -> None:
    """Refuse a weight that `narrow` would; for weights that others cast.

    Raises:
        InputError: a finite value would become infinite.
    """
    narrow(value, dtype, name)
