"""A session over a graph of a fixed number of rows that takes any number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sprint_export.nouns.report import Finding
from sprint_export.session import Session, list_findings

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Batched:
    """A session over one that takes `batch` rows: what it is given goes in so many at a time, the last ones filled up.

    Args:
        session: takes and gives `batch` rows.
        batch: at least 2.
        step: the input that all rows share.
    """

    def __init__(self, session: Session, batch: int, step: str) -> None:
        self.session, self._batch, self._step = session, batch, step

    @property
    def description(self) -> str:
        """What runs it and where."""
        return self.session.description

    def findings(self) -> list[Finding]:
        """What the session noticed, of rows that fill up too."""
        return list_findings(self.session)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, as many rows as were given."""
        import numpy as np

        count = max(len(value) for name, value in feeds.items() if name != self._step)
        found = [self.session.run(self._take(feeds, start)) for start in range(0, count, self._batch)]
        return {name: np.concatenate([each[name] for each in found])[:count] for name in found[0]}

    def _take(self, feeds: Mapping[str, Array], start: int) -> dict[str, Array]:
        """So many rows from one on; where there are no more the last one again."""
        import numpy as np

        taken = {}
        for name, value in feeds.items():
            rows = np.minimum(np.arange(start, start + self._batch), len(value) - 1)
            taken[name] = value if name == self._step else value[rows]
        return taken
