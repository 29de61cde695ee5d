"""How many pictures a validation draws: a count, as many as fit into a budget of seconds, or as many as decide. No libraries.

Each chunk of pictures is drawn in every version (PyTorch's, the exported one, ...) before the next begins, so that the drawn ones
can be compared whenever the time is over, or when they decide every gate (stopping.py). With a budget the first chunk is FEWEST
pictures, whatever they take; the next as many as the seconds of each version so far say, and at most as many as there are
already, so that a wrong estimate is soon corrected. Small pictures have no budget: their chunks end at LOOKS.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sprint_export.errors import InputError

FEWEST = 4  # pictures, whatever they take
SMALL_PICTURE = 128  # pixels; above this size the default has a budget
LOOKS = (64, 320, 512)  # of small pictures; fewer looks leave each a larger part of what may go wrong (confidence/looks.py)
MOST_PICTURES = 64  # by default above SMALL_PICTURE
BUDGET_S = 180.0  # above SMALL_PICTURE: on two cores a full-size student draws FEWEST in more; where it is faster, more fit
UNITS = {"s": 1, "m": 60, "h": 3600}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")


def read_budget(text: str | float | None) -> float | None:
    """Seconds of `90s`, `10m` or `1h`; a number is seconds.

    Raises:
        InputError: it is no such text, or no time at all.
    """
    if text is None:
        return None
    match = _FORM.fullmatch(str(text).strip())
    seconds = float(match[1]) * UNITS[match[2] or "s"] if match else math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"budget={text!r}: expected seconds, minutes or hours, e.g. 90s, 10m or 1h")
    return seconds


@dataclass
class Pace:
    """The pictures of one validation.

    Args:
        most: there are no more prompts, or no more were asked for.
        budget_s: of wall clock; None: chunks end at `looks`.
        clock: seconds that pass.
        looks: counts of pictures, rising; none: `most` in one chunk.
    """

    most: int
    budget_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    looks: Sequence[int] = ()
    rates: dict[str, float | None] = field(default_factory=dict)  # seconds a picture, loading included; None: all were kept

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def spent_s(self) -> float:
        """Seconds since the validation began."""
        return self.clock() - self._start

    def expect(self, is_judged: bool) -> int:
        """How many pictures there will be, as far as can be said before: rates of judged ones take a second look."""
        if self.budget_s is not None:
            return min(FEWEST, self.most)
        return min([*self.looks[is_judged : is_judged + 1], self.most])

    def choose_next(self, drawn: int) -> int:
        """How many pictures the next chunk has, where so many are drawn; 0 ends."""
        rest = self.most - drawn
        if self.budget_s is None:
            return next((look - drawn for look in self.looks if drawn < look < self.most), rest)
        if drawn < FEWEST:
            return min(FEWEST - drawn, rest)
        slowest = max(filter(None, self.rates.values()), default=0.0)
        each = sum(slowest if rate is None else rate for rate in self.rates.values())
        left = self.budget_s - self.spent_s
        fits = int(left / each) if each else int(left > 0)  # all was kept: one to see what it takes
        return max(0, min(fits, drawn, rest))

    def note(self, version: str, seconds: float, drawn: int) -> None:
        """Say what a version took in a chunk, and how many of its pictures were drawn and not kept from before."""
        self.rates[version] = seconds / drawn if drawn else self.rates.get(version)


def count_drawn(seconds: Mapping[str, list[float]]) -> int:
    """Pictures that were drawn, of the seconds of all calls of each network: those of a loop are more, what was kept less."""
    return min((len(each) for each in seconds.values() if each), default=0)
