"""The pictures of a validation: a chunk in every version, then the next, as far as its pace allows (pace.py).

A chunk is drawn in portions (portions.py); where there are many pictures, they lie on a disk from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from sprint_export.bundle_files import TOKENIZER
from sprint_export.cache import ADVICE, cache_folder
from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError, MachineError
from sprint_export.export.bundle import locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step
from sprint_export.prompt_reader import PromptReader
from sprint_export.registry import load_target
from sprint_export.runtimes.runtime import Runtime
from sprint_export.sizes import find_sizes
from sprint_export.specialize import specialize_like
from sprint_export.validate.blocks.compare import Found as Blocks
from sprint_export.validate.blocks.compare import Sides as BlockSides
from sprint_export.validate.blocks.compare import compare_blocks
from sprint_export.validate.cluster.pool import Cluster
from sprint_export.validate.confidence.decisions import CONFIDENCE
from sprint_export.validate.confidence.looks import Looks
from sprint_export.validate.kept import Holder, Kept
from sprint_export.validate.kept_results import KeptResults
from sprint_export.validate.pace import SMALL_PICTURE, Pace, count_drawn
from sprint_export.validate.portions import LaterDraws, check_disk, plan_portions
from sprint_export.validate.reference_cache import KIND, LATENTS, PICTURE, ReferenceSide, list_paths, recall_reference
from sprint_export.validate.rows import Rows, open_rows
from sprint_export.validate.side_by_side import (
    LARGE_SAMPLES,
    Drawn,
    RoundedKeeper,
    compare_components,
    compare_rounded,
    draw_exported,
    draw_rounded,
    pair_components,
)

Array = npt.NDArray[Any]


@dataclass
class Sides:
    """What was drawn, and what was found of single components meanwhile.

    Args:
        reference: PyTorch's float32.
        exported: by the bundle.
        rounded: pictures of torch with the same rounding, of the first prompts: the first chunk's.
        is_fed: its networks were fed what the exported ones were, not what the one before gave.
        rows: of a report.
        blocks: what was found of those of each network, at the first prompt.
        confidence: of intervals; where a validation looked more than once, more than is said of them together.
    """

    reference: ReferenceSide
    exported: Drawn
    rounded: Array
    is_fed: bool
    rows: list[Measurement]
    blocks: Blocks
    confidence: float = CONFIDENCE


# Pictures exported and of the reference, [B, H, W, 3], and the confidence of their intervals: is it enough?
IsDecided = Callable[[Rows, Rows, float], bool]
Draw = Callable[[range], ReferenceSide | Drawn]  # of prompts at these places
Part = TypeVar("Part", ReferenceSide, Drawn)


@dataclass
class Drawing:
    """How pictures of a bundle and its student are drawn.

    Args:
        bundle: the files.
        student: unspecialized.
        runtime: of the exported side.
        is_timed: draw all of the reference's pictures, for their seconds.
        kept: where what a network gave is kept until the report is written.
        progress: is told (step, done, total).
        compute: where torch draws its sides.
        cluster: draws all chunks but the first.
        holder: says that this run reads what is kept.
    """

    bundle: Bundle
    student: Student
    runtime: Runtime
    is_timed: bool
    kept: Kept
    progress: Progress
    compute: Compute = CPU
    cluster: Cluster | None = None
    holder: Holder = field(default_factory=Holder)
    _told: dict[Step, int] = field(default_factory=dict)
    _references: Kept = field(default_factory=lambda: Kept(KIND))
    _has_compared: bool = False  # what sessions notice from then on is in no row

    def draw_sides(self, prompts: Sequence[str], pace: Pace, is_decided: IsDecided | None = None) -> Sides:
        """As many of the prompts as the pace allows, the first ones; with `is_decided` no more than it asks for."""
        networks = {record.role: record for record in self.bundle.components}
        self._draws = LaterDraws(specialize_like(self.student, self.bundle), networks, prompts, self.compute)
        self._portions = plan_portions(self.bundle, len(prompts))
        if self._portions.is_kept:
            self._check()
        versions: dict[str, Draw] = {"reference": self._recall_reference}
        if self.is_small:
            versions["rounded"] = self._draw_rounded
        versions["exported"] = self._draw_exported
        found: dict[str, Any] = {}
        looks, confidence, done = Looks(pace.most), CONFIDENCE, 0
        while count := pace.choose_next(done):
            chunk = range(done, done + count)
            parts = self._draw_chunk(versions, chunk, pace) if self.cluster is None or not done else self._send(chunk, pace)
            found |= {name: found[name].join(part) if done else part for name, part in parts.items()}
            if not done:
                blocks = self._compare_blocks(found)
                rows, pictures = self._compare(found)
                self._has_compared = True
                versions.pop("rounded", None)  # tells the converter's part from the recipe's: the first chunk is enough
                pace.rates.pop("rounded", None)
            done += count
            for kept in (self.kept, self._references):
                kept.bound()
            if is_decided is not None:
                confidence = looks.look(done)
                if is_decided(found["exported"].pictures, found["reference"].pictures, confidence):
                    break
                confidence = looks.look_last()
        if self.is_small:
            pictures = found["rounded"].pictures
        return Sides(found["reference"], found["exported"], pictures, not self.is_small, rows, blocks, confidence)

    def _draw_chunk(self, versions: Mapping[str, Draw], chunk: range, pace: Pace) -> dict[str, Any]:
        """The chunk in every version, here."""
        parts = {}
        for name, draw in versions.items():
            start = pace.clock()
            parts[name] = draw(chunk)
            pace.note(name, pace.clock() - start, count_drawn(parts[name].seconds))
        return parts

    def _send(self, chunk: range, pace: Pace) -> dict[str, Any]:
        """The chunk in both versions, by the cluster: the first one, which tells what single networks do, was drawn here."""
        assert self.cluster is not None
        start = pace.clock()
        reference, exported = self.cluster.draw(self._draws, self._portions.split(chunk), self._tell)
        pace.rates.clear()
        pace.note("exported", pace.clock() - start, len(chunk))
        return {"reference": reference, "exported": exported}

    @property
    def is_small(self) -> bool:
        """Whether torch can draw all pictures too."""
        return picture_side(self.bundle) <= SMALL_PICTURE

    def _check(self) -> None:
        """Before anything is drawn: every prompt can be read, and there is room for the pictures."""
        reader = PromptReader(self.bundle.prompt, locate(self.bundle, TOKENIZER), BundleError)
        everything = self._portions.split(range(len(self._draws.prompts)))
        for places in everything:
            reader.read(self._draws.prompts[places.start : places.stop])
        if self.holder.path is None:
            raise MachineError(f"pictures are kept at {cache_folder()}, which cannot be written to; {ADVICE}")

        def list_kept() -> Iterator[Path]:
            for draws in map(self._draws.take, everything):
                yield from (*list_paths(self.student, draws, self._references), *self._results.list_paths(draws))

        check_disk(self._portions, 2 if self.cluster is None else self.cluster.copies, list_kept, self.progress)

    @property
    def _results(self) -> KeptResults:
        return KeptResults(self.bundle, self.runtime, self.kept)

    def _recall_reference(self, places: range) -> ReferenceSide:
        return self._draw_portions(places, self._recall_portion)

    def _recall_portion(self, places: range, tell: Progress) -> ReferenceSide:
        draws, is_kept = self._draws.take(places), self._portions.is_kept
        working = Kept(self.kept.kind, self.kept.owner) if is_kept else self.kept
        found = recall_reference(self.student, draws, tell, self.is_timed, working, self._references, is_kept)
        if not is_kept:
            return ReferenceSide(found.pictures, found.latents, found.seconds)
        working.forget()
        paths = list_paths(self.student, draws, self._references)
        (pictures, latents), _ = open_rows(self._references, paths, (PICTURE, LATENTS))
        return ReferenceSide(pictures, latents, found.seconds)

    def _draw_rounded(self, places: range) -> Drawn:
        return draw_rounded(self.bundle, self.student, self._draws.take(places), self._tell, self.kept)

    def _draw_exported(self, places: range) -> Drawn:
        return self._draw_portions(places, self._draw_portion)

    def _draw_portion(self, places: range, tell: Progress) -> Drawn:
        """The first one is always drawn: there single networks are watched, and timed in every run."""
        draws = self._draws.take(places)
        if places.start and self._portions.is_kept:
            return self._results.draw(draws, tell, heeds_findings=not self._has_compared)
        samples = 0 if self.is_small else LARGE_SAMPLES
        drawn = draw_exported(self.bundle, self.runtime, draws, tell, self.kept, samples)
        return self._results.keep(draws, drawn) if self._portions.is_kept else drawn

    def _draw_portions(self, places: range, draw: Callable[[range, Progress], Part]) -> Part:
        """One portion after the other, told as one stage."""
        whole: Part | None = None
        portions, steps = self._portions.split(places), set[Step]()
        for portion in portions:
            self.holder.renew()
            tell = self._tell if len(portions) == 1 else partial(self._tell_part, portion.stop - places.start, len(places), steps)
            part = draw(portion, tell)
            whole = part if whole is None else whole.join(part)
        for step in steps:
            self._tell(step, len(places), len(places))
        assert whole is not None
        return whole

    def _compare_blocks(self, found: Mapping[str, Drawn]) -> Blocks:
        """Each network on what it was given at the first prompt; large ones ran rounded then, and need not again."""
        keeper = None if self.is_small else RoundedKeeper(self.bundle, self.kept, self.compute)
        specialized = specialize_like(self.student, self.bundle)
        sides = BlockSides(self.bundle, specialized, self.runtime, self.compute, keeper)
        traces = found["rounded" if self.is_small else "exported"].traces
        return compare_blocks(sides, {role: trace.feeds[0] for role, trace in traces.items() if trace.feeds}, self._tell)

    def _compare(self, found: Mapping[str, Drawn]) -> tuple[list[Measurement], Array]:
        """Single components on the first chunk; pictures of torch with the same rounding."""
        if not self.is_small:
            return compare_rounded(self.bundle, self.student, found["exported"], self._tell, self.kept, self.compute)
        rounded = found["rounded"]
        rows = compare_components(self.bundle, self.runtime, rounded, self._tell)
        paired = pair_components(self.bundle, self.student, rounded)
        return rows + load_target(self.bundle.target).compare_rows(self.bundle, paired), rounded.pictures[:]

    def _tell_part(self, end: int, whole: int, steps: set[Step], step: Step, done: int, total: int) -> None:
        """What is told of a portion that ends at `end` of `whole`: what is kept of it is done, and the end is told once."""
        steps.add(step)
        if end - total + done < whole:
            self._tell(step, end - total + done, whole)

    def _tell(self, step: Step, done: int, total: int) -> None:
        """A stage that comes again with the next chunk goes on counting."""
        before = self._told.get(step, 0)
        self.progress(step, before + done, before + total)
        if done == total:
            self._told[step] = before + total


def picture_side(bundle: Bundle) -> int:
    """Width of the pictures in pixels."""
    if missing := bundle.chain.list_missing([record.role for record in bundle.components]):
        raise BundleError(
            f"the bundle has no {', '.join(missing)}: no picture can be drawn; export all components to validate it"
        )
    return find_sizes(bundle).pixels[1]
