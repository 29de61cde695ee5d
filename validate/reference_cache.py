"""The reference's pictures, kept on disk (kept.py): validating again, another target, or a larger count draws what is new.

A picture is kept as soon as it is drawn, under all that decides it: student, prompt, noise, what optional networks take, steps or
times, guidance, versions of the libraries, the family's code, the CPU's instructions.
Seconds are of pictures drawn in this run alone: a kept one took none.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Reference, load_family
from sprint_export.validate.kept import Kept
from sprint_export.validate.rows import Rows, join_rows

KIND = "reference"
PICTURE, LATENTS = "picture", "latents"  # in a file
LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers")


@dataclass
class ReferenceSide:
    """A Reference whose pictures uint8 [B, H, W, 3] and denoised states float32 [B, *latents] may lie on a disk."""

    pictures: Rows
    latents: Rows
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def join(self, later: ReferenceSide) -> ReferenceSide:
        """Both; each network's first call is left out of the later's seconds: it was loaded anew."""
        seconds = {role: [*each, *later.seconds.get(role, [])[1:]] for role, each in self.seconds.items()}
        pictures, latents = join_rows(self.pictures, later.pictures), join_rows(self.latents, later.latents)
        return ReferenceSide(pictures, latents, later.seconds | seconds)


def recall_reference(
    student: Student,
    draws: Draws,
    progress: Progress = quiet,
    is_fresh: bool = False,
    unfinished: Kept | None = None,
    kept: Kept | None = None,
    is_needed: bool = False,
) -> Reference:
    """What the family's reference draws, of which only what is not kept yet is drawn.

    Args:
        student: unspecialized.
        draws: prompts, noise and guidance.
        progress: is told (step, done, total).
        is_fresh: draw all of them, for their seconds; they are kept.
        unfinished: where to keep what a picture is made of until it is drawn.
        kept: where pictures are kept, bounded by who gives it; default: by this.
        is_needed: each has to be found there again.
    """
    is_own, kept = kept is None, kept or Kept(KIND)
    drawing, paths = _describe_drawing(student, draws), list_paths(student, draws, kept)
    found = [None if is_fresh else kept.read(path) for path in paths]
    missing = [i for i, values in enumerate(found) if values is None]
    seconds: dict[str, list[float]] = {}

    def keep(row: int, picture: npt.NDArray[np.uint8], latents: npt.NDArray[np.float32]) -> None:
        values: dict[str, npt.NDArray[Any]] = {PICTURE: picture, LATENTS: latents}
        found[missing[row]] = values
        kept.write(paths[missing[row]], values, is_needed)

    if missing:
        asked = replace(draws.take(missing), hand_over=keep)
        if unfinished is not None:
            asked = replace(asked, recall=lambda question, make: unfinished.recall([drawing, question], make))
        drawn = draw_reference(student, asked, progress)
        seconds = drawn.seconds
        for row, i in enumerate(missing):
            if found[i] is None:  # by a family that hands nothing over
                keep(row, drawn.pictures[row], drawn.latents[row])
        if is_own:
            kept.bound()
    whole = [values for values in found if values is not None]
    pictures, latents = (np.stack([values[name] for values in whole]) for name in (PICTURE, LATENTS))
    return Reference(pictures, latents, seconds)


def list_paths(student: Student, draws: Draws, kept: Kept | None = None) -> list[Path]:
    """Where each picture is kept, once it was drawn."""
    drawing, kept = _describe_drawing(student, draws), kept or Kept(KIND)
    return [kept.locate([drawing, *one.prompts], {"noise": one.noise, **one.inputs}) for one in draws.split()]


def draw_reference(student: Student, draws: Draws, progress: Progress) -> Reference:
    """What the family's original implementation draws."""
    return load_family(student.family).draw_reference(student, draws, progress)


@functools.cache
def _describe_code(family: str) -> list[list[str]]:
    files = sorted(load_family(family).folder.glob("*.py"), key=lambda path: path.name)
    return [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]


def _describe_drawing(student: Student, draws: Draws) -> str:
    """All that decides a picture beside its prompt and noise."""
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    code, steps, guidance = _describe_code(student.family), len(draws.noise), draws.guidance
    cpu = torch.backends.cpu.get_cpu_capability() if draws.compute.is_cpu else draws.compute.title
    schedule = draws.times or steps
    return json.dumps([student.fingerprint, student.source, schedule, guidance, "float32", versions, code, cpu])
