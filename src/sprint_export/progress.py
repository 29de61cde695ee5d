"""How a long stage says how far it is: a callback (stage, done, total), so that a bar, a log or nothing can listen."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def quiet(stage: str, done: int, total: int) -> None:
    """Say nothing; the default for library use."""
