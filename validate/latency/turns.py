"""Sides draw in turn, so that what changes on the machine meanwhile changes them alike.

    one side       A A A A ...
    several        in blocks of a shuffled order and its reverse: A B B A, B A A B, ...
Within a block a steady drift adds the same to every side: the ratio of a block's sums is free of it. A ratio is the median over
blocks, its interval by order statistics.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sprint_export.progress import Progress, Step, quiet
from sprint_export.validate.latency.quantiles import PARTS, Interval, bound_quantile, find_quantile
from sprint_export.validate.latency.watch import Watch, read_waiting

TIMING, WARMING = "timing", "warming up"
MOST_WAITING = 0.1  # of a picture's seconds, summed over threads: one that waited longer is disturbed
LEAST_QUIET = 12  # pictures that were not disturbed, for the others to be left out
LEAST_PICTURES, LEAST_SECONDS, MOST_SECONDS = 10, 10.0, 60.0  # of a side, where no number is asked for
MOST_PICTURES = 2000
SPREAD = 30.0
WARM_PICTURES, WARM_SECONDS, MOST_WARM = 2, 1.0, 50


class Side(Protocol):
    """What draws: a bundle, or PyTorch."""

    label: str
    pictures: int  # at once

    @property
    def description(self) -> str:
        """What runs it and where."""

    @property
    def replays(self) -> bool | None:
        """Whether its launches are replayed from a recorded graph; None where it launches nothing."""

    def draw(self, seed: int) -> Mapping[str, Sequence[float]]:
        """Draw once, wait until it is there, and give the seconds of each call of each network, by role."""


@dataclass(frozen=True)
class Timed:
    """One drawing: when it began, its seconds, those of the networks' calls by role, what its threads waited for processors."""

    began: float
    seconds: float
    calls: Mapping[str, Sequence[float]]
    waited: float | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing else took the processors from it, as far as the system says."""
        return self.waited is None or self.waited <= MOST_WAITING * self.seconds


@dataclass(frozen=True)
class Length:
    """How long is drawn.

    Args:
        runs: pictures of each side; None: as many as LEAST_SECONDS hold, and more while the machine is busy.
        warm_up: pictures before; None: two, and more until a second has passed.
        minutes: draw for so long, in place of a number.
        least: pictures and seconds, where no number is asked for.
        most_seconds: on a busy machine.
        spread: seconds over which the drawings are spread, in five parts with pauses between: what drifts within them is in the
            interval of the p50. None: SPREAD where no number is asked for, else 0.
    """

    runs: int | None = None
    warm_up: int | None = None
    minutes: float | None = None
    least: tuple[int, float] = (LEAST_PICTURES, LEAST_SECONDS)
    most_seconds: float = MOST_SECONDS
    spread: float | None = None

    @property
    def pauses_until(self) -> float:
        """Seconds from the first drawing over which all are spread."""
        is_open = self.runs is None and self.minutes is None
        return self.spread if self.spread is not None else SPREAD if is_open else 0.0

    def is_over(self, drawn: Sequence[Timed], seconds: float) -> bool:
        """Whether a side that drew these, in so many seconds in all, has enough."""
        if self.minutes is not None:
            return seconds >= 60 * self.minutes
        if self.runs is not None:
            return len(drawn) >= self.runs
        if len(drawn) < self.least[0] or seconds < self.least[1]:
            return False
        is_clear = sum(each.is_quiet for each in drawn) >= min(LEAST_QUIET, len(drawn))
        return is_clear or len(drawn) >= MOST_PICTURES or seconds >= self.most_seconds

    def count(self, drawn: int, seconds: float) -> int:
        """How many pictures of a side there will be in all, more than are drawn, guessed by the pace so far."""
        if self.minutes is None and self.runs is not None:
            return max(self.runs, drawn + 1)
        pace = seconds / drawn if drawn else 0.0
        wanted = self.least[1] if self.minutes is None else 60 * self.minutes
        least = self.least[0] if self.minutes is None else 1
        return max(drawn + 1, least, round(wanted / pace) if pace else 0)


@dataclass
class Turns:
    """The drawings of several sides, in turn.

    Args:
        sides: at least one.
        length: how long.
        watch: is asked to look between drawings.
        clock: seconds.
        waiting: seconds that this process's threads waited for a processor, or None.
        sleep: for so many seconds.
        progress: is told (step, done, total).
    """

    sides: Sequence[Side]
    length: Length
    watch: Watch
    clock: Callable[[], float] = time.perf_counter
    waiting: Callable[[], float | None] = read_waiting
    sleep: Callable[[float], None] = time.sleep
    progress: Progress = quiet
    drawn: list[list[Timed]] = field(default_factory=list)
    warmed: int = 0

    def warm_up(self) -> None:
        """Draw what is not counted."""
        began, wanted = self.clock(), self.length.warm_up
        while not self._is_warm(began):
            self.progress(Step(WARMING), self.warmed, max(self.warmed + 1, wanted or WARM_PICTURES))
            for side in self.sides:
                side.draw(0)
            self.warmed += 1
        self.progress(Step(WARMING), self.warmed, self.warmed)

    def _is_warm(self, began: float) -> bool:
        if self.length.warm_up is not None:
            return self.warmed >= self.length.warm_up
        seconds = (self.clock() - began) / len(self.sides)
        return self.warmed >= WARM_PICTURES and (seconds >= WARM_SECONDS or self.warmed >= MOST_WARM)

    def draw(self) -> list[list[Timed]]:
        """Draw until each side has enough; the drawings of each, in order."""
        self.drawn = [[] for _ in self.sides]
        shuffle, began, paused, part = random.Random(0).shuffle, self.clock(), 0.0, 0
        self.watch.tick()
        while True:
            seconds = (self.clock() - began - paused) / len(self.sides)
            if all(self.length.is_over(each, seconds) for each in self.drawn):
                break
            done = min(map(len, self.drawn))
            count = self.length.count(done, seconds)
            self.progress(Step(TIMING), done, count)
            if (now := PARTS * done // count) > part:
                paused, part = paused + self._pause(began + now * self.length.pauses_until / PARTS), now
            for place in self._order(shuffle):
                self.drawn[place].append(self._time(self.sides[place], len(self.drawn[place])))
        done = min(map(len, self.drawn))
        self.progress(Step(TIMING), done, done)
        return self.drawn

    def _pause(self, until: float) -> float:
        """Wait until then, and have each side draw once that is not counted; the seconds that took."""
        start = self.clock()
        if until <= start:
            return 0.0
        self.sleep(until - start)
        for side in self.sides:
            side.draw(0)
        return self.clock() - start

    def draw_one(self, seed: int) -> None:
        """Have the first side draw once, when somebody else says so."""
        if not self.drawn:
            self.drawn = [[]]
        self.drawn[0].append(self._time(self.sides[0], seed))
        self.progress(Step(TIMING), len(self.drawn[0]), len(self.drawn[0]) + 1)

    def _order(self, shuffle: Callable[[list[int]], None]) -> list[int]:
        places = list(range(len(self.sides)))
        shuffle(places)
        return places if len(places) == 1 else [*places, *reversed(places)]

    def _time(self, side: Side, seed: int) -> Timed:
        waited = self.waiting()
        began = self.clock()
        calls = side.draw(seed)
        seconds = self.clock() - began
        after = self.waiting()
        self.watch.tick()
        return Timed(began, seconds, calls, None if waited is None or after is None else max(0.0, after - waited))


def choose_quiet(drawn: Sequence[Timed]) -> list[Timed]:
    """Those that were not disturbed, where they are enough to speak; else all."""
    calm = [each for each in drawn if each.is_quiet]
    return calm if len(calm) >= LEAST_QUIET else list(drawn)


def compare_turns(ours: Sequence[Timed], theirs: Sequence[Timed]) -> tuple[float, Interval | None, int]:
    """How many times the seconds of `ours` those of `theirs` are: the median over blocks of two each, its interval, its blocks.

    Blocks in which a drawing was disturbed are left out where enough others are there.
    """
    blocks = [(ours[i : i + 2], theirs[i : i + 2]) for i in range(0, min(len(ours), len(theirs)) - 1, 2)]
    calm = [block for block in blocks if all(each.is_quiet for side in block for each in side)]
    blocks = calm if len(calm) >= LEAST_QUIET else blocks
    ratios = [sum(each.seconds for each in b) / sum(each.seconds for each in a) for a, b in blocks]
    return find_quantile(ratios, 0.5), bound_quantile(ratios, 0.5), len(ratios)
