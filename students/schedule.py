"""Schedules: the flow times of a run, a family's own or those that a user gives. Standard library only.

Times are flow times s in (0, 1], 1 the noise, falling; `trigflow:` before them says that they are TrigFlow's t in (0, pi/2], as
the SANA-Sprint and TBCM papers write them: s = sin t / (sin t + cos t). A name is one of the family's, e.g. `tbcm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sprint_export.errors import InputError

TRIGFLOW = "trigflow:"
MOST = 4
EARLIEST = (0.99, 1.00001)  # the first time: students start from noise; TrigFlow's 1.57080 is a hair over pi / 2


@dataclass(frozen=True)
class Schedule:
    """Flow times, noise first, and the guidance that goes with them; None: the family's default."""

    times: tuple[float, ...]
    guidance: float | None = None


def find_flow_time(t: float) -> float:
    """TrigFlow's t -> the flow time s = sin t / (sin t + cos t)."""
    return math.sin(t) / (math.sin(t) + math.cos(t))


def find_trigflow_time(s: float) -> float:
    """The flow time s -> TrigFlow's t = atan2(s, 1 - s)."""
    return math.atan2(s, 1 - s)


def read_schedule(asked: str | Sequence[float], named: Mapping[str, Schedule]) -> Schedule:
    """What was asked for as `--times`: a name, numbers with commas between them, or numbers.

    Args:
        asked: as it was typed, or flow times.
        named: a family's schedules.

    Raises:
        InputError: it is none of these, or the numbers are no schedule.
    """
    if isinstance(asked, str) and asked in named:
        return named[asked]
    shown = asked if isinstance(asked, str) else ",".join(map(str, asked))
    try:
        is_trigflow = isinstance(asked, str) and asked.startswith(TRIGFLOW)
        numbers = asked.removeprefix(TRIGFLOW).split(",") if isinstance(asked, str) else asked
        times = tuple(find_flow_time(float(t)) if is_trigflow else float(t) for t in numbers)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        names = f"; schedules with a name: {', '.join(named)}" if named else ""
        raise InputError(f"--times {shown}: expected numbers, e.g. 1,0.6 or {TRIGFLOW}1.5708,1.0{names}") from error
    low, high = EARLIEST
    if not (1 <= len(times) <= MOST and low <= times[0] <= high and times[-1] > 0 and all(a > b for a, b in pairwise(times))):
        flow = f" (flow times {', '.join(f'{s:.5g}' for s in times)})" if is_trigflow else ""
        raise InputError(
            f"--times {shown}{flow}: expected 1 to {MOST} falling flow times in (0, 1], the noise's first: at least {low}"
        )
    return Schedule(times)
