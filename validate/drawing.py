"""The pictures of a validation: a chunk in every version, then the next, as far as its pace allows (pace.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError
from sprint_export.noise import VALIDATION_SEED, make_noise
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.chain import Interface
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step
from sprint_export.registry import load_target
from sprint_export.runtimes.runtime import Runtime
from sprint_export.sizes import find_sizes
from sprint_export.specialize import specialize_like
from sprint_export.students.family import Draws, Reference, load_family
from sprint_export.validate.blocks.compare import Found as Blocks
from sprint_export.validate.blocks.compare import Sides as BlockSides
from sprint_export.validate.blocks.compare import compare_blocks
from sprint_export.validate.cluster.pool import Cluster
from sprint_export.validate.confidence.decisions import CONFIDENCE
from sprint_export.validate.confidence.looks import Looks
from sprint_export.validate.kept import Kept
from sprint_export.validate.pace import SMALL_PICTURE, Pace, count_drawn
from sprint_export.validate.reference_cache import recall_reference
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

    reference: Reference
    exported: Drawn
    rounded: Array
    is_fed: bool
    rows: list[Measurement]
    blocks: Blocks
    confidence: float = CONFIDENCE


# Pictures exported and of the reference, [B, H, W, 3], and the confidence of their intervals: is it enough?
IsDecided = Callable[[Array, Array, float], bool]


Draw = Callable[[Draws], Reference | Drawn]


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
    """

    bundle: Bundle
    student: Student
    runtime: Runtime
    is_timed: bool
    kept: Kept
    progress: Progress
    compute: Compute = CPU
    cluster: Cluster | None = None
    _told: dict[Step, int] = field(default_factory=dict)

    def draw_sides(self, prompts: Sequence[str], pace: Pace, is_decided: IsDecided | None = None) -> Sides:
        """As many of the prompts as the pace allows, the first ones; with `is_decided` no more than it asks for."""
        networks = {record.role: record for record in self.bundle.components}
        draws = make_draws(specialize_like(self.student, self.bundle), networks, prompts, self.compute)
        versions: dict[str, Draw] = {"reference": self._recall_reference}
        if self.is_small:
            versions["rounded"] = self._draw_rounded
        versions["exported"] = self._draw_exported
        found: dict[str, Any] = {}
        looks, confidence, done = Looks(pace.most), CONFIDENCE, 0
        while count := pace.choose_next(done):
            chunk = draws.take(range(done, done + count))
            parts = self._draw_chunk(versions, chunk, pace) if self.cluster is None or not done else self._send(chunk, pace)
            found |= {name: found[name].join(part) if done else part for name, part in parts.items()}
            if not done:
                blocks = self._compare_blocks(found)
                rows, pictures = self._compare(found)
                versions.pop("rounded", None)  # tells the converter's part from the recipe's: the first chunk is enough
                pace.rates.pop("rounded", None)
            done += count
            self.kept.bound()
            if is_decided is not None:
                confidence = looks.look(done)
                if is_decided(found["exported"].pictures, found["reference"].pictures, confidence):
                    break
                confidence = looks.look_last()
        if self.is_small:
            pictures = found["rounded"].pictures
        return Sides(found["reference"], found["exported"], pictures, not self.is_small, rows, blocks, confidence)

    def _draw_chunk(self, versions: Mapping[str, Draw], chunk: Draws, pace: Pace) -> dict[str, Any]:
        """The chunk in every version, here."""
        parts = {}
        for name, draw in versions.items():
            start = pace.clock()
            parts[name] = draw(chunk)
            pace.note(name, pace.clock() - start, count_drawn(parts[name].seconds))
        return parts

    def _send(self, chunk: Draws, pace: Pace) -> dict[str, Any]:
        """The chunk in both versions, by the cluster: the first one, which tells what single networks do, was drawn here."""
        assert self.cluster is not None
        start = pace.clock()
        reference, exported = self.cluster.draw(chunk, self._tell)
        pace.rates.clear()
        pace.note("exported", pace.clock() - start, len(chunk.prompts))
        return {"reference": reference, "exported": exported}

    @property
    def is_small(self) -> bool:
        """Whether torch can draw all pictures too."""
        return picture_side(self.bundle) <= SMALL_PICTURE

    def _recall_reference(self, draws: Draws) -> Reference:
        return recall_reference(self.student, draws, self._tell, self.is_timed, self.kept)

    def _draw_rounded(self, draws: Draws) -> Drawn:
        return draw_rounded(self.bundle, self.student, draws, self._tell, self.kept)

    def _draw_exported(self, draws: Draws) -> Drawn:
        samples = 0 if self.is_small else LARGE_SAMPLES
        return draw_exported(self.bundle, self.runtime, draws, self._tell, self.kept, samples)

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
        return rows + load_target(self.bundle.target).compare_rows(self.bundle, paired), rounded.pictures

    def _tell(self, step: Step, done: int, total: int) -> None:
        """A stage that comes again with the next chunk goes on counting."""
        before = self._told.get(step, 0)
        self.progress(step, before + done, before + total)
        if done == total:
            self._told[step] = before + total


def make_draws(specialized: Student, networks: Mapping[str, Interface], prompts: Sequence[str], compute: Compute = CPU) -> Draws:
    """What all versions draw of a specialized student with these networks: prompts, noise, what optional networks take.

    Noise and inputs of a prompt depend on its place alone.
    """
    assert specialized.plan is not None
    noise = make_noise(VALIDATION_SEED, specialized.plan.steps, len(prompts), specialized.latent_shape)
    samples = load_family(specialized.family).make_inputs(specialized, prompts)
    inputs = {name: samples[name] for name in specialized.chain.list_given(networks)}
    plan, family = specialized.plan, load_family(specialized.family)
    times = tuple(plan.times[row] for row in plan.rows())
    own = family.plan_times(plan.steps)
    return Draws(prompts, noise, plan.guidance, inputs, compute, times=() if times == own else times)


def picture_side(bundle: Bundle) -> int:
    """Width of the pictures in pixels."""
    if missing := bundle.chain.list_missing([record.role for record in bundle.components]):
        raise BundleError(
            f"the bundle has no {', '.join(missing)}: no picture can be drawn; export all components to validate it"
        )
    return find_sizes(bundle).pixels[1]
