"""How far one op may be from PyTorch: what its constants' rounding and float32 arithmetic do, measured by moving them.

    error     |found - wanted|: its maximum over max |wanted|, and its rms over rms |wanted|
    allowed   FLOOR + FACTOR * the same of the noise: op(moved operands) - op(operands)

A constant whose source is known (sources.py) is that source, and nothing is allowed for it. Another float16 constant, one that
coremltools computed, stands for anything within half a unit of its last place: it moves by that, up or down at random, equal
elements alike. Only 0, 1 and -1 stay, which coremltools fills in itself. Other operands move by a few float32 units. One rounding
leaves no constant to move: a factor within half a float16 unit of 1 is rounded to 1, and coremltools removes the multiplication.
What is parallel to such a factor on one operand is therefore no error in a float16 result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_FLOOR = 1e-5  # of max |wanted|: float32 sums in another order
RMS_FLOOR = 1e-5  # of rms |wanted|: coremltools fuses x * a + b to a batch_norm with epsilon 1e-5, which takes 5e-6
FACTOR = 1.5  # what rounding did, over what moving by all it may do does: 0.9 of it on healthy packages
INPUT_STEP = 2.0**-22  # relative: four float32 roundings
NEAR_ONE = 2.0**-11  # a factor this near to 1 is 1 in float16
UNLIKE = 0.5  # of rms |wanted|: beyond it a value is another one


@dataclass(frozen=True)
class Excess:
    """An error over its tolerance; `measure` is "largest" (of max |wanted|) or "rms" (of rms |wanted|)."""

    measure: str
    error: float
    tolerance: float


def find_excess(error: Tensor, noise: Tensor, wanted: Tensor) -> Excess | None:
    """The first measure by which the error is more than is allowed; noise that is no number allows nothing."""
    noise = noise.nan_to_num(0.0, 0.0, 0.0)
    for measure, size, floor in (("largest", largest, LARGEST_FLOOR), ("rms", rms, RMS_FLOOR)):
        whole = size(wanted) or 1.0
        tolerance = floor + FACTOR * size(noise) / whole
        if not size(error) / whole <= tolerance:  # a NaN is too much, too
            return Excess(measure, size(error) / whole, tolerance)
    return None


def is_lost_factor(error: Tensor, noise: Tensor, wanted: Tensor, effects: Sequence[Callable[[], Tensor]]) -> bool:
    """Whether the error is a factor near 1 on one operand. Each effect is what a factor of 1 + NEAR_ONE on it changes."""
    for effect in effects:
        change = effect()
        along = float((error * change).sum() / change.square().sum().clamp(min=1e-30))
        if abs(along) <= 1 and find_excess(error - along * change, noise, wanted) is None:
            return True
    return False


def is_unlike(error: Tensor, wanted: Tensor) -> bool:
    """Whether this cannot be the wanted value with an error, but is another value."""
    return not rms(error) <= UNLIKE * rms(wanted)


def half_unit(tensor: Tensor) -> Tensor:
    """Half a float16 unit in the last place of each element: what rounding to float16 may have taken."""
    exponent = torch.frexp(tensor.abs().clamp(min=2.0**-14)).exponent  # the smallest normal; below it the unit stays
    return torch.ldexp(torch.ones_like(tensor), exponent - 12)


def is_filled_in(constant: Tensor) -> bool:
    """Whether all of it is 0, 1 or -1: what coremltools itself writes, as a bias, a gain or the factor of a negation."""
    return bool((constant.abs().square() == constant.abs()).all())


def draw_alike(stored: Tensor, random: torch.Generator) -> Tensor:
    """1 or -1 for each element of a float16 constant, the same for equal ones: what was rounded to one value had one value."""
    signs = torch.empty(1 << 16).bernoulli_(0.5, generator=random) * 2 - 1
    return signs[stored.contiguous().view(torch.int16).long() & 0xFFFF].reshape(stored.shape)


def largest(tensor: Tensor) -> float:
    """max |x|."""
    return float(tensor.abs().max())


def rms(tensor: Tensor) -> float:
    """The root of the mean square."""
    return float(tensor.square().mean().sqrt())
