"""Both sides of a validation drawn a portion at a time (portions.py): in memory, or as files where they are many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sprint_export.bundle_files import TOKENIZER
from sprint_export.errors import BundleError
from sprint_export.export.bundle import locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress
from sprint_export.prompt_reader import PromptReader
from sprint_export.runtimes.runtime import Runtime
from sprint_export.validate.kept import Holder, Kept
from sprint_export.validate.kept_results import KeptResults
from sprint_export.validate.portion_reference import PortionReference, join_portions
from sprint_export.validate.portions import LaterDraws, Portions, check_disk
from sprint_export.validate.reference_cache import KIND, ReferenceSide
from sprint_export.validate.side_by_side import Drawn, draw_exported

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class PortionDrawing:
    """PyTorch's side and the exported one, of prompts at any places.

    Args:
        bundle: the files.
        student: unspecialized.
        runtime: of the exported side.
        draws: of all prompts.
        portions: likewise.
        kept: where what a network gave is kept until the report is written.
        holder: says that this run reads what is kept.
        tell: is told (step, done, total).
        samples: prompts on which single networks of the exported side are watched: the first ones.
        is_timed: draw all of the reference's pictures, for their seconds.
        heeds_findings: what sessions of the exported side notice is still asked for.
        references: where the reference's pictures are kept.
    """

    bundle: Bundle
    student: Student
    runtime: Runtime
    draws: LaterDraws
    portions: Portions
    kept: Kept
    holder: Holder
    tell: Progress
    samples: int
    is_timed: bool
    heeds_findings: bool = True
    references: Kept = field(default_factory=lambda: Kept(KIND))

    def check(self, copies: int, progress: Progress) -> None:
        """Before anything is drawn as files: every prompt can be read, and there is room for so many files of each picture.

        Raises:
            InputError: a prompt cannot be read. MachineError: there is no room, or the cache cannot be written to.
        """
        reader = PromptReader(self.bundle.prompt, locate(self.bundle, TOKENIZER), BundleError)
        everything = self.portions.split(range(len(self.draws.prompts)))
        for places in everything:
            reader.read(self.draws.prompts[places.start : places.stop])

        def list_kept() -> Iterator[Path]:
            for places in everything:
                yield from (*self._reference.list_paths(places), *self._results.list_paths(self.draws.take(places)))

        check_disk(self.portions, copies, self.holder, list_kept, progress)

    def bound(self) -> None:
        """Remove from the cache what is too much, and not of this run."""
        for kept in (self.kept, self.references):
            kept.bound()

    def recall_reference(self, places: range) -> ReferenceSide:
        """PyTorch's; what is kept is not drawn."""
        return self._reference.recall(places)

    def draw_exported(self, places: range) -> Drawn:
        """The bundle's; likewise, but for the first portion: there single networks are watched, and timed in every run."""
        return join_portions(self.portions, places, self._draw_portion, self.holder, self.tell)

    @property
    def _reference(self) -> PortionReference:
        return PortionReference(
            self.student, self.draws, self.portions, self.kept, self.holder, self.tell, self.is_timed, self.references
        )

    @property
    def _results(self) -> KeptResults:
        return KeptResults(self.bundle, self.runtime, self.kept)

    def _draw_portion(self, places: range, tell: Progress) -> Drawn:
        draws = self.draws.take(places)
        if places.start and self.portions.is_kept:
            return self._results.draw(draws, tell, self.heeds_findings)
        drawn = draw_exported(self.bundle, self.runtime, draws, tell, self.kept, self.samples)
        return self._results.keep(draws, drawn) if self.portions.is_kept else drawn
