"""When a block's exported value is clearly further from PyTorch's than rounding explains.

    c = exported - rounded,  r = rounded - float32,  v = float32's value       root mean squares over all of a block's values
    departs where   c > OVERALL r + noise v,   or in one channel   c_j > CHANNEL max(r_j, r) + noise v_j
Both sides round alike, so c is far below r as long as the same values are rounded; behind many layers a last digit decides which
way a value is rounded, and the two come to be as far apart as two roundings that share nothing: sqrt(2) r. OVERALL stands above
that. One wrong channel of many is lost in the mean, so each is looked at too: of channels with errors like r's, the largest of
thousands is about 4.5 sqrt(2) r, and CHANNEL stands above that. `noise` is what arithmetic alone does in the graph's type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OVERALL = 2.0
CHANNEL = 8.0
NOISE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 8e-2}  # of what a graph computes in


@dataclass(frozen=True)
class Comparison:
    """One block's value on three sides, as root mean squares.

    Args:
        size: of float32's values.
        exported: of exported - float32.
        rounded: of rounded - float32.
        converter: of exported - rounded.
        sizes: of float32's values, by channel [C].
        rounded_by_channel: as `rounded` [C].
        converter_by_channel: as `converter` [C].
    """

    size: float
    exported: float
    rounded: float
    converter: float
    sizes: Array
    rounded_by_channel: Array
    converter_by_channel: Array

    @property
    def relative_error(self) -> float:
        """Exported against float32."""
        return _divide(self.exported, self.size)

    def excess(self, dtype: str) -> float:
        """How many times what rounding and arithmetic in `dtype` explain the exported side is off: above 1 it departs."""
        noise = NOISE[dtype]
        overall = _divide(self.converter, OVERALL * self.rounded + noise * self.size)
        allowed = CHANNEL * np.maximum(self.rounded_by_channel, self.rounded) + noise * np.maximum(self.sizes, self.size)
        found = self.converter_by_channel
        by_channel = np.divide(found, allowed, out=np.where(found > 0, np.inf, 0.0), where=allowed > 0)
        return float(max(overall, by_channel.max(initial=0.0)))


def compare_values(exported: Array, rounded: Array, wanted: Array) -> Comparison:
    """Matrices float32 [positions, channels]; what is no number counts as infinitely far."""
    found, same, right = (each.astype(np.float64) for each in (exported, rounded, wanted))
    with np.errstate(invalid="ignore", over="ignore"):
        means = [np.square(each).mean(0) for each in (right, found - right, same - right, found - same)]
    squares = [np.where(np.isnan(each), np.inf, each) for each in means]
    size, exported_error, rounded_error, converter_error = (float(np.sqrt(each.mean())) for each in squares)
    by_channel = [np.sqrt(squares[i]) for i in (0, 2, 3)]
    return Comparison(size, exported_error, rounded_error, converter_error, *by_channel)


def _divide(one: float, other: float) -> float:
    if other > 0:
        return one / other
    return float("inf") if one > 0 else 0.0
