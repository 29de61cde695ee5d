"""Both sides of a validation drawn a portion at a time (portions.py): in memory, or as files where they are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sprint_export.bundle_files import TOKENIZER
from sprint_export.cache import ADVICE, cache_folder
from sprint_export.errors import BundleError, MachineError
from sprint_export.export.bundle import locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step
from sprint_export.prompt_reader import PromptReader
from sprint_export.runtimes.runtime import Runtime
from sprint_export.validate.kept import Holder, Kept
from sprint_export.validate.kept_results import KeptResults
from sprint_export.validate.portions import LaterDraws, Portions, check_disk
from sprint_export.validate.reference_cache import KIND, LATENTS, PICTURE, ReferenceSide, list_paths, recall_reference
from sprint_export.validate.rows import open_rows
from sprint_export.validate.side_by_side import Drawn, draw_exported

Part = TypeVar("Part", ReferenceSide, Drawn)


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
        if self.holder.path is None:
            raise MachineError(f"pictures are kept at {cache_folder()}, which cannot be written to; {ADVICE}")

        def list_kept() -> Iterator[Path]:
            for draws in map(self.draws.take, everything):
                yield from (*list_paths(self.student, draws, self.references), *self._results.list_paths(draws))

        check_disk(self.portions, copies, list_kept, progress)

    def bound(self) -> None:
        """Remove from the cache what is too much, and not of this run."""
        for kept in (self.kept, self.references):
            kept.bound()

    def recall_reference(self, places: range) -> ReferenceSide:
        """PyTorch's; what is kept is not drawn."""
        return self._join(places, self._recall_portion)

    def draw_exported(self, places: range) -> Drawn:
        """The bundle's; likewise, but for the first portion: there single networks are watched, and timed in every run."""
        return self._join(places, self._draw_portion)

    @property
    def _results(self) -> KeptResults:
        return KeptResults(self.bundle, self.runtime, self.kept)

    def _recall_portion(self, places: range, tell: Progress) -> ReferenceSide:
        draws, is_kept = self.draws.take(places), self.portions.is_kept
        working = Kept(self.kept.kind, self.kept.owner) if is_kept else self.kept
        found = recall_reference(self.student, draws, tell, self.is_timed, working, self.references, is_kept)
        if not is_kept:
            return ReferenceSide(found.pictures, found.latents, found.seconds)
        working.forget()
        paths = list_paths(self.student, draws, self.references)
        (pictures, latents), _ = open_rows(self.references, paths, (PICTURE, LATENTS))
        return ReferenceSide(pictures, latents, found.seconds)

    def _draw_portion(self, places: range, tell: Progress) -> Drawn:
        draws = self.draws.take(places)
        if places.start and self.portions.is_kept:
            return self._results.draw(draws, tell, self.heeds_findings)
        drawn = draw_exported(self.bundle, self.runtime, draws, tell, self.kept, self.samples)
        return self._results.keep(draws, drawn) if self.portions.is_kept else drawn

    def _join(self, places: range, draw: Callable[[range, Progress], Part]) -> Part:
        """One portion after the other, told as one stage."""
        whole: Part | None = None
        portions, steps = self.portions.split(places), set[Step]()
        for portion in portions:
            self.holder.renew()
            tell = self.tell if len(portions) == 1 else partial(self._tell_part, portion.stop - places.start, len(places), steps)
            part = draw(portion, tell)
            whole = part if whole is None else whole.join(part)
        for step in steps:
            self.tell(step, len(places), len(places))
        assert whole is not None
        return whole

    def _tell_part(self, end: int, whole: int, steps: set[Step], step: Step, done: int, total: int) -> None:
        """What is told of a portion that ends at `end` of `whole`: what is kept of it is done, and the end is told once."""
        steps.add(step)
        if end - total + done < whole:
            self.tell(step, end - total + done, whole)
