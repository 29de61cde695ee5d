"""The pictures of a validation: a chunk in every version, then the next, as far as its pace allows (pace.py).

A chunk is drawn in portions (portions.py); where there are many pictures, they lie on a disk from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy.typing as npt

from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step
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
from sprint_export.validate.pace import SMALL_PICTURE, Pace, count_drawn
from sprint_export.validate.portion_drawing import PortionDrawing
from sprint_export.validate.portions import LaterDraws, plan_portions
from sprint_export.validate.reference_cache import ReferenceSide
from sprint_export.validate.rows import Rows
from sprint_export.validate.side_by_side import (
    LARGE_SAMPLES,
    Drawn,
    RoundedKeeper,
    compare_components,
    compare_rounded,
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

    def draw_sides(self, prompts: Sequence[str], pace: Pace, is_decided: IsDecided | None = None) -> Sides:
        """As many of the prompts as the pace allows, the first ones; with `is_decided` no more than it asks for."""
        networks = {record.role: record for record in self.bundle.components}
        draws = LaterDraws(specialize_like(self.student, self.bundle), networks, prompts, self.compute)
        drawer = self._open_drawer(draws)
        versions: dict[str, Draw] = {"reference": drawer.recall_reference}
        if self.is_small:
            versions["rounded"] = partial(self._draw_rounded, draws)
        versions["exported"] = drawer.draw_exported
        found: dict[str, Any] = {}
        looks, confidence, done = Looks(pace.most), CONFIDENCE, 0
        while count := pace.choose_next(done):
            chunk = range(done, done + count)
            is_here = self.cluster is None or not done
            parts = self._draw_chunk(versions, chunk, pace) if is_here else self._send(drawer, chunk, pace)
            found |= {name: found[name].join(part) if done else part for name, part in parts.items()}
            if not done:
                blocks = self._compare_blocks(found)
                rows, pictures = self._compare(found)
                drawer.heeds_findings = False  # what sessions notice from now on is in no row
                versions.pop("rounded", None)  # tells the converter's part from the recipe's: the first chunk is enough
                pace.rates.pop("rounded", None)
            done += count
            drawer.bound()
            if is_decided is not None:
                confidence = looks.look(done)
                if is_decided(found["exported"].pictures, found["reference"].pictures, confidence):
                    break
                confidence = looks.look_last()
        if self.is_small:
            pictures = found["rounded"].pictures
        return Sides(found["reference"], found["exported"], pictures, not self.is_small, rows, blocks, confidence)

    def _open_drawer(self, draws: LaterDraws) -> PortionDrawing:
        """What draws both sides; where their pictures will be files, there is room for them."""
        samples, portions = 0 if self.is_small else LARGE_SAMPLES, plan_portions(self.bundle, len(draws.prompts))
        drawer = PortionDrawing(
            self.bundle,
            self.student,
            self.runtime,
            draws,
            portions,
            self.kept,
            self.holder,
            self._tell,
            samples,
            self.is_timed,
        )
        if portions.is_kept:
            drawer.check(2 if self.cluster is None else self.cluster.copies, self.progress)
        return drawer

    def _draw_chunk(self, versions: Mapping[str, Draw], chunk: range, pace: Pace) -> dict[str, Any]:
        """The chunk in every version, here."""
        parts = {}
        for name, draw in versions.items():
            start = pace.clock()
            parts[name] = draw(chunk)
            pace.note(name, pace.clock() - start, count_drawn(parts[name].seconds))
        return parts

    def _send(self, drawer: PortionDrawing, chunk: range, pace: Pace) -> dict[str, Any]:
        """The chunk in both versions, by the cluster: the first one, which tells what single networks do, was drawn here."""
        assert self.cluster is not None
        start = pace.clock()
        reference, exported = self.cluster.draw(drawer.draws, drawer.portions.split(chunk), self._tell)
        pace.rates.clear()
        pace.note("exported", pace.clock() - start, len(chunk))
        return {"reference": reference, "exported": exported}

    @property
    def is_small(self) -> bool:
        """Whether torch can draw all pictures too."""
        return picture_side(self.bundle) <= SMALL_PICTURE

    def _draw_rounded(self, draws: LaterDraws, places: range) -> Drawn:
        return draw_rounded(self.bundle, self.student, draws.take(places), self._tell, self.kept)

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
