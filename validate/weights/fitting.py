"""Whether a file's values are those that are meant, up to what another machine's last digits do.

    codes     one step apart at most, in no more than a fiftieth of a row, or two of it
    numbers   two units in the last place of the graph's type, and float32's own rounding of sums
Folds and ranges are computed anew where a bundle is validated: a sum in another order moves a last digit, and with it a code
that lies between two. A zero point that is one off moves each code; a scale, a channel or a layer that is another one more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UNITS = {"fp32": 2.0**-20, "fp16": 2.0**-9, "bf16": 2.0**-6}  # two of them, of a number's own size; of float32 what sums do
SUMS = 2.0**-20  # of the largest number: what float32 does to one that is a difference of larger ones
STEP = 1.0  # between two codes
STEP_OF_FLOATS = 0.126  # of an 8-bit float, relative: three bits behind the point
MOST_OFF, LEAST_OFF = 0.02, 2  # codes of a row: a share of it, or so many


def fit_codes(found: Array, wanted: Array, is_exact: bool = True) -> npt.NDArray[np.bool_]:
    """For each row of [rows, ...]: whether its codes are those that are meant; unless `is_exact`, all may be a step apart."""
    ours, theirs = _as_rows(found), _as_rows(wanted)
    if np.array_equal(ours, theirs):  # as nearly all are: a tenth of the time
        return np.ones(len(ours), np.bool_)
    ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    apart = np.abs(ours - theirs)
    step = STEP if np.issubdtype(wanted.dtype, np.integer) else STEP_OF_FLOATS * np.maximum(np.abs(theirs), 2.0**-6)
    few = (apart > 0).sum(1) <= max(LEAST_OFF, MOST_OFF * apart.shape[1])
    near: npt.NDArray[np.bool_] = (apart <= step).all(1)
    return near & few if is_exact else near


def fit_numbers(found: Array, wanted: Array, dtype: str) -> npt.NDArray[np.bool_]:
    """For each row of [rows, ...]: whether its numbers are those that are meant."""
    ours, theirs = (_as_rows(each).astype(np.float32) for each in (found, wanted))
    largest = float(np.abs(theirs).max(initial=0.0))
    allowed = UNITS[dtype] * np.abs(theirs) + SUMS * largest + SMALLEST[dtype]
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(ours - theirs) <= allowed).all(1))


SMALLEST = {"fp32": 0.0, "fp16": 2.0**-24, "bf16": 0.0}  # a unit of numbers below the smallest normal one


def _as_rows(values: Array) -> Array:
    return np.asarray(values).reshape(len(values), -1) if values.ndim else np.asarray(values).reshape(1, 1)
