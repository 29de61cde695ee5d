"""What torch makes of a network, most of an export's time, is kept while several targets are made, for the next equal one.

Modules are equal where they pickle to the same bytes: classes, attributes, shapes, and the values that are not on `meta`. One
that cannot be pickled is translated every time. Weights are bound afterwards, to a copy.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import pickle
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass
class Captures:
    """Graphs without weights, by what decides them; beyond `most` the oldest goes."""

    most: int = 12
    graphs: dict[str, ir.Model] = field(default_factory=dict)

    def recall(self, key: str, translate: Callable[[], ir.Model]) -> ir.Model:
        """A copy of the graph that is kept, or is now."""
        if key not in self.graphs:
            if len(self.graphs) == self.most:
                del self.graphs[next(iter(self.graphs))]
            self.graphs[key] = translate()
        copied = self.graphs[key].clone()
        copied.graph._name_authority = copy.deepcopy(self.graphs[key].graph._name_authority)  # the same numbers for nodes to come
        return copied


_current: ContextVar[Captures | None] = ContextVar("captures", default=None)


@contextlib.contextmanager
def keep_captures(captures: Captures) -> Iterator[None]:
    """Within, graphs are kept in `captures`, or in those of an outer block."""
    token = _current.set(_current.get() or captures)
    try:
        yield
    finally:
        _current.reset(token)


def recall_capture(translate: Callable[[], ir.Model], *parts: object) -> ir.Model:
    """What `translate` gives; a copy of what is kept where graphs are, of the same parts."""
    captures = _current.get()
    key = None if captures is None else hash_module(*parts)
    return translate() if captures is None or key is None else captures.recall(key, translate)


def hash_module(*parts: object) -> str | None:
    """Of all that decides the graph; None where it cannot be pickled."""
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    pickler.fast = True  # what is there twice is written twice, whether it is one object or two
    try:
        pickler.dump(parts)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, NotImplementedError):
        return None
    return hashlib.sha256(content.getvalue()).hexdigest()
