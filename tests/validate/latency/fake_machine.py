"""A clock that only drawing moves, sides that take what they are told, and a machine that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sprint_export.validate.latency.watch import Watch


@dataclass
class FakeClock:
    """Seconds, and those that threads waited for processors."""

    now: float = 100.0
    waited: float = 0.0

    def read(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds

    def read_waited(self) -> float:
        """Seconds."""
        return self.waited

    def watch(self) -> Watch:
        """A watch on it, without GPUs."""
        return Watch(self.read, gpus=())


@dataclass
class FakeSide:
    """A side whose drawing number i, from 0 and warm-ups included, takes `seconds(i, now)`, and waits `waits(i)` of them."""

    label: str
    clock: FakeClock
    seconds: Callable[[int, float], float]
    waits: Callable[[int], float] = lambda place: 0.0
    order: list[str] = field(default_factory=list)
    replays: bool | None = None
    pictures: int = 1
    count: int = 0

    @property
    def description(self) -> str:
        """As of a side."""
        return f"fake {self.label}"

    def draw(self, seed: int) -> Mapping[str, Sequence[float]]:
        """Move the clock."""
        took = self.seconds(self.count, self.clock.now)
        self.clock.now += took
        self.clock.waited += self.waits(self.count)
        self.count += 1
        self.order.append(self.label)
        return {"denoiser": (0.75 * took,)}
