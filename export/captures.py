"""What torch makes of a network, most of an export's time, is kept while several targets are made, for the next equal one.

Modules are equal where they pickle to the same bytes: classes, attributes, shapes, and the values that are not on `meta`. One
that cannot be pickled is captured every time. Weights are bound afterwards, to a copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

Capture = TypeVar("Capture")


@dataclass
class Captures:
    """Captures without weights, by what decides them; beyond `most` the oldest goes."""

    most: int = 12
    kept: dict[str, Any] = field(default_factory=dict)

    def recall(self, key: str, capture: Callable[[], Capture]) -> Capture:
        """What is kept, or is now."""
        if key not in self.kept:
            if len(self.kept) == self.most:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = capture()
        kept: Capture = self.kept[key]
        return kept


_current: ContextVar[Captures | None] = ContextVar("captures", default=None)


@contextlib.contextmanager
def keep_captures(captures: Captures) -> Iterator[None]:
    """Within, what is captured is kept in `captures`, or in those of an outer block."""
    token = _current.set(_current.get() or captures)
    try:
        yield
    finally:
        _current.reset(token)


def recall_capture(capture: Callable[..., Capture], copy: Callable[[Capture], Capture], *parts: object) -> Capture:
    """What `capture` makes of the parts; where captures are kept a copy, which the caller may change."""
    captures = _current.get()
    key = None if captures is None else hash_module(capture.__name__, *parts)
    return capture(*parts) if captures is None or key is None else copy(captures.recall(key, lambda: capture(*parts)))


def hash_module(*parts: object) -> str | None:
    """Of all that decides a capture; None where it cannot be pickled."""
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    pickler.fast = True  # what is there twice is written twice, whether it is one object or two
    try:
        pickler.dump(parts)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, NotImplementedError):  # each is how one kind says no
        return None
    return hashlib.sha256(content.getvalue()).hexdigest()
