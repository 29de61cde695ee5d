"""How a stage speaks: a callback (step, done, total) says how far it is, another what was decided, in a line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Where a run is: a stage, and which network, library or device of it; printed as `exporting: transformer`.

    In a run for several targets, for which of them too: `onnx-int8, exporting: transformer`.
    """

    stage: str
    detail: str = ""
    target: str = ""

    def __str__(self) -> str:
        text = f"{self.stage}: {self.detail}" if self.detail else self.stage
        return f"{self.target}, {text}" if self.target else text


Progress = Callable[[Step, int, int], None]
Say = Callable[[str], None]


def quiet(step: Step, done: int, total: int) -> None:
    """Say nothing; the default for library use."""


def say_nothing(text: str) -> None:
    """Likewise."""


def track(items: Collection[T], step: Step, progress: Progress) -> Iterator[T]:
    """The items one by one, each told before it is taken, and the end."""
    for i, item in enumerate(items):
        progress(step, i, len(items))
        yield item
    progress(step, len(items), len(items))
