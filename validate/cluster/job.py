"""What a worker of a cluster does: open the bundle and its student once, then draw shards of prompts on both sides.

A worker gets prompts with their noise, so what it draws depends on nothing but them: it is what one process draws.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from sprint_export.compute import choose_compute
from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.parts import Parts
from sprint_export.nouns.student import Student
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.students.family import Draws
from sprint_export.validate.kept import Kept
from sprint_export.validate.reference_cache import recall_reference
from sprint_export.validate.side_by_side import draw_exported

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.runtimes.runtime import Runtime
    from sprint_export.session import Pipeline

    Array = npt.NDArray[Any]

Seconds = Mapping[str, list[float]]
KIND = "cluster"  # of the cache


@dataclass(frozen=True)
class Job:
    """What every worker opens; small, and the same on every machine.

    Args:
        bundle: an absolute path, which leads to the bundle on each of them.
        identity: the bundle's.
        student: what `load_student` takes; a folder as an absolute path.
        variant: likewise.
        parts: likewise.
        runtime: of the exported side, as in `open_bundle`.
        provider: likewise.
        compute: where torch draws: cpu, cuda, ...
        is_timed: draw references that are kept too, for their seconds.
        one_at_a_time: hold one network of the bundle in memory, and open it anew for each shard.
    """

    bundle: str
    identity: str
    student: str
    variant: str | None
    parts: Parts
    runtime: str | None
    provider: str | None
    compute: str
    is_timed: bool
    one_at_a_time: bool


@dataclass
class PromptResult:
    """One prompt drawn on both sides: pictures uint8 [H, W, 3], denoised states float32 [*latents]."""

    reference: Array
    reference_latents: Array
    exported: Array
    exported_latents: Array

    def as_arrays(self) -> dict[str, Array]:
        """By field."""
        return dict(vars(self))


@dataclass
class ShardResult:
    """A shard's prompts, in order; seconds of the calls that ran, by role; what drew the exported side."""

    prompts: list[PromptResult]
    reference_seconds: Seconds = field(default_factory=dict)
    exported_seconds: Seconds = field(default_factory=dict)
    description: str = ""


def describe_student(student: Student) -> str:
    """What a worker loads it by: its folder where it has one here, else its name.

    Raises:
        InputError: it was made in this program, where no worker finds it.
    """
    from sprint_export.students.source import check_source

    source = student.source if student.folder is None or not Path(student.source).exists() else str(student.folder.resolve())
    try:
        check_source(source, student.parts)
    except InputError as error:
        raise InputError(f"each worker of a cluster loads the student itself, and {source!r} is none to load ({error})") from None
    return source


@dataclass
class ShardDrawer:
    """One worker: it opens what the job names when it draws first, and keeps it open."""

    job: Job

    def draw(self, draws: Draws) -> ShardResult:
        """Both sides of these prompts.

        Raises:
            InputError, BundleError: the student or the bundle is not there on this machine, or another one.
        """
        here, kept = replace(draws, compute=self._compute), Kept(KIND, f"worker-{os.getpid()}")
        reference = recall_reference(self._student, here, is_fresh=self.job.is_timed)
        exported = draw_exported(self._bundle, self._runtime, here, kept=kept, pipeline=self._pipeline)
        kept.discard()
        sides = (reference.pictures, reference.latents, exported.pictures[:], exported.latents[:])
        rows = [PromptResult(*row) for row in zip(*sides, strict=True)]
        return ShardResult(rows, reference.seconds, exported.seconds, exported.description)

    @cached_property
    def _compute(self) -> Any:
        return choose_compute(self.job.compute)

    @cached_property
    def _bundle(self) -> Bundle:
        bundle = read_bundle(Path(self.job.bundle))
        if bundle.identity != self.job.identity:
            raise InputError(f"{self.job.bundle} on this worker is another bundle; every worker has to find the same one there")
        return bundle

    @cached_property
    def _runtime(self) -> Runtime:
        return choose_runtime(self._bundle, self.job.runtime, self.job.provider)

    @cached_property
    def _pipeline(self) -> Pipeline:
        return open_pipeline(self._bundle, self._runtime, one_at_a_time=self.job.one_at_a_time)

    @cached_property
    def _student(self) -> Student:
        from sprint_export.students import load_student

        student = load_student(self.job.student, self.job.variant, self.job.parts)
        if student.fingerprint != self._bundle.fingerprint:
            raise InputError(f"{self.job.student!r} on this worker is not the student that the bundle was made from")
        return student
