"""What a comparison found: frozen dataclasses that turn into comparison.json (json_forms.py), no libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sprint_export.nouns.report import Measurement

FORMAT = 1  # of comparison.json
NAN, CONSTANT, SIZE, FAILED = "NaN", "constant", "size", "failed"  # kinds of what is wrong with a picture


@dataclass(frozen=True)
class PictureFault:
    """What is wrong with the picture of one prompt."""

    place: int
    kind: str
    note: str


@dataclass(frozen=True)
class EntryResult:
    """One entry of the table.

    Args:
        name: as the user, or its folder, calls it.
        kind: of folder.
        folder: where it lies.
        description: what made its pictures.
        rank: 1 is the best; entries with blank pictures come last.
        rows: against the reference.
        against_best: the best of the same metric, picture by picture; empty for the best itself.
        faults: pictures that show nothing or are none.
        figures: values by metric and place.
        verdict: of its gates: met, not met, not decided.
        is_on_front: no other entry is as good in quality, latency and size, and better in one of them.
        is_measured: whether its latency was measured here, in turn with the others.
        flipped: places of pictures that a judge says show something else than the reference's.
    """

    name: str
    kind: str
    folder: str
    description: str
    rank: int
    rows: tuple[Measurement, ...]
    against_best: tuple[Measurement, ...]
    faults: tuple[PictureFault, ...]
    figures: Mapping[str, tuple[float, ...]]
    verdict: str
    is_on_front: bool = False
    is_measured: bool = True
    flipped: tuple[int, ...] = ()

    def find(self, metric: str) -> Measurement | None:
        """The row of that name."""
        return next((row for row in self.rows if row.metric == metric), None)

    def value(self, metric: str) -> float | None:
        """Its value."""
        row = self.find(metric)
        return None if row is None else row.value


@dataclass(frozen=True)
class Comparison:
    """Entries by rank, and what all of them drew.

    Args:
        student: whose stock PyTorch in float32 is the reference.
        machine: that drew.
        steps: of the sampler.
        seed: of the first prompt's noise; prompt i has `seed + i`.
        prompts: in order.
        ranked_by: the metric.
        entries: best first.
        unchecked: a sentence on each thing that could not be measured.
    """

    student: str
    machine: str
    steps: int
    seed: int
    prompts: tuple[str, ...]
    ranked_by: str
    entries: tuple[EntryResult, ...]
    unchecked: tuple[str, ...] = ()
