"""Flow times of TwinFlow's released sampler, for every family that it distilled. Standard library only.

    times = 1 - linspace(0.001, last, n);  last = 0.4 -> t = 0.6 for two steps, 0.5 -> t = 0.5 for four

The released script makes noise in bfloat16 and rounds this grid to the noise's type before it subtracts, so that its students
see 1, 0.6015625 where float32 gives 0.999, 0.6. Families here take the released bfloat16 constants; the schedules with a name
(`--times float32-2`) are the others, and what the training code calls few. Either way the first x is the noise itself
(`starts_from_noise`). Three steps are not published: their grid has the ends of four's.
Source: inclusionAI/TwinFlow's UnifiedSampler and README (rfba_gap_steps), arXiv 2512.05150.
"""

from __future__ import annotations

import struct

from sprint_export.errors import InputError
from sprint_export.students.schedule import Schedule

FIRST, LAST = 0.001, {1: 0.4, 2: 0.4, 3: 0.5, 4: 0.5}  # ends of the grid: rfba_gap_steps and 1 - it
DTYPE = "bfloat16"  # whose constants the released sampler uses


def twinflow_times(steps: int, dtype: str = DTYPE) -> tuple[float, ...]:
    """Flow times of the released schedule for 1 to 4 steps, as constants of a type.

    Raises:
        InputError: `steps` is not 1 to 4.
    """
    if steps not in LAST:
        raise InputError(f"steps={steps}: distilled students take 1 to 4 steps; choose one of 1, 2, 3, 4")
    width = (LAST[steps] - FIRST) / max(steps - 1, 1)
    grid = [FIRST + i * width for i in range(steps)]
    if dtype == DTYPE:
        return tuple(round_to_bfloat16(1 - round_to_bfloat16(value)) for value in grid)
    return tuple(1 - value for value in grid)


def round_to_bfloat16(value: float) -> float:
    """The nearest bfloat16, ties to even: the upper 16 bits of a float32."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    (result,) = struct.unpack("<f", struct.pack("<I", rounded))
    return float(result)


SCHEDULES = {f"float32-{steps}": Schedule(twinflow_times(steps, "float32")) for steps in (1, 2, 4)} | {
    "few": Schedule((1.0, round_to_bfloat16(1 - round_to_bfloat16(0.3))))  # rfba_gap_steps [0.001, 0.7]
}
