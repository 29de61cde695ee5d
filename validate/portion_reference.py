"""PyTorch's side drawn a portion of prompts at a time (portions.py): in memory, or as files where pictures are many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step
from sprint_export.students.family import Draws
from sprint_export.validate.kept import Holder, Kept
from sprint_export.validate.portions import Portions
from sprint_export.validate.reference_cache import KIND, LATENTS, PICTURE, ReferenceSide, list_paths, recall_reference
from sprint_export.validate.rows import open_rows
from sprint_export.validate.side_by_side import Drawn

if TYPE_CHECKING:
    from pathlib import Path

Part = TypeVar("Part", ReferenceSide, Drawn)


class PlacedDraws(Protocol):
    """Draws of many prompts, made where they are asked for: noise of all may not fit into memory."""

    @property
    def prompts(self) -> Sequence[str]:
        """All of them."""

    def take(self, places: range) -> Draws:
        """Of prompts that follow one another."""


@dataclass(frozen=True)
class PortionReference:
    """PyTorch's side of prompts at any places.

    Args:
        student: unspecialized.
        draws: of all prompts.
        portions: likewise.
        unfinished: where what a picture is made of is kept, as long as pictures are few: many have files of their own.
        holder: says that this run reads what is kept.
        tell: is told (step, done, total).
        is_timed: draw all pictures, for their seconds.
        references: where pictures are kept.
    """

    student: Student
    draws: PlacedDraws
    portions: Portions
    unfinished: Kept
    holder: Holder
    tell: Progress
    is_timed: bool = False
    references: Kept = field(default_factory=lambda: Kept(KIND))

    def recall(self, places: range) -> ReferenceSide:
        """The pictures; what is kept is not drawn."""
        return join_portions(self.portions, places, self._recall_portion, self.holder, self.tell)

    def list_paths(self, places: range) -> list[Path]:
        """Where each picture is kept, once it was drawn."""
        return list_paths(self.student, self.draws.take(places), self.references)

    def _recall_portion(self, places: range, tell: Progress) -> ReferenceSide:
        draws, is_kept = self.draws.take(places), self.portions.is_kept
        working = Kept(self.unfinished.kind, self.unfinished.owner) if is_kept else self.unfinished
        found = recall_reference(self.student, draws, tell, self.is_timed, working, self.references, is_kept)
        if not is_kept:
            return ReferenceSide(found.pictures, found.latents, found.seconds)
        working.forget()
        (pictures, latents), _ = open_rows(self.references, self.list_paths(places), (PICTURE, LATENTS))
        return ReferenceSide(pictures, latents, found.seconds)


def join_portions(
    portions: Portions, places: range, draw: Callable[[range, Progress], Part], holder: Holder, tell: Progress
) -> Part:
    """What `draw` gives of these places, one portion after the other, told as one stage."""
    whole: Part | None = None
    parts, steps = portions.split(places), set[Step]()
    for part in parts:
        holder.renew()
        partly = tell if len(parts) == 1 else partial(_tell_part, tell, steps, part.stop - places.start, len(places))
        drawn = draw(part, partly)
        whole = drawn if whole is None else whole.join(drawn)
    for step in steps:
        tell(step, len(places), len(places))
    assert whole is not None
    return whole


def _tell_part(tell: Progress, steps: set[Step], end: int, whole: int, step: Step, done: int, total: int) -> None:
    """What is told of a portion that ends at `end` of `whole`: what is kept of it is done, and the end is told once."""
    steps.add(step)
    if end - total + done < whole:
        tell(step, end - total + done, whole)
