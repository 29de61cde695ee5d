"""How a long stage says how far it is: a callback (step, done, total), so that a bar, a log or nothing can listen."""

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


def quiet(step: Step, done: int, total: int) -> None:
    """Say nothing; the default for library use."""


def track(items: Collection[T], step: Step, progress: Progress) -> Iterator[T]:
    """The items one by one, each told before it is taken, and the end."""
    for i, item in enumerate(items):
        progress(step, i, len(items))
        yield item
    progress(step, len(items), len(items))
