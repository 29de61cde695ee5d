"""Campaign: folders of the other families, damaged, odd and hostile, as mutate_students.py makes them.

    TwinFlow-Z, TwinFlow-Qwen   small twins in folders as they are published
Each is loaded, specialized and drawn in torch beside the family's reference, which the stock classes draw.
Right: the same latents, or one line; no code of theirs runs, and nothing outside is read.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sprint_export.noise import make_noise
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.students.twinflow_qwen.family import FAMILY as QWEN
from tests.attack import mutate_students
from tests.attack.forks import run_forked, was_read
from tests.attack.outcomes import OUTSIDE, Tally, judge
from tests.students.published_folders import write_qwen, write_z
from tests.students.twinflow_z.test_checkpoint import small

NAME = "students of other families"
SECONDS, GIGABYTES = 90.0, 6.0
ENOUGH_DB = 40.0
KINDS = tuple(kind for kind in mutate_students.KINDS if kind != "tokenizer")  # theirs are words and merges: damaged as files
PROMPT = "a red fox"


@dataclass(frozen=True)
class Subject:
    """A family's folder, and how large its latents are drawn: None, as it says."""

    name: str
    write: Callable[[Path], object]
    latent_shape: tuple[int, ...] | None = None


SUBJECTS = (
    Subject("TwinFlow-Z", lambda folder: write_z(small(), folder)),
    Subject("TwinFlow-Qwen", lambda folder: write_qwen(QWEN.tiny(), folder), QWEN.tiny().latent_shape),
)


def draw(subject: Subject, folder: Path) -> str:
    """Two steps of latents beside the reference's; "" where they are the same."""
    student = load_student(folder)
    family = load_family(student.family)
    if subject.latent_shape is not None:
        student = dataclasses.replace(student, latent_shape=subject.latent_shape, prompt=family.tiny().prompt)
    noise = make_noise(1, 2, 1, student.latent_shape)
    wanted = family.draw_reference(student, Draws([PROMPT], noise, family.guidance)).latents
    (table,) = open_torch(specialize_student(student, 2)).draw([PROMPT], noise=noise)
    found = np.asarray(table[student.chain.names.denoised if "latents" not in table else "latents"])
    if not np.isfinite(found).all():
        return "no numbers"
    error = float(np.sqrt(np.mean(np.square(found - wanted))))
    decibels = 20 * np.log10(float(np.ptp(wanted)) / error) if error else 100.0
    return "" if decibels >= ENOUGH_DB else f"{decibels:.1f} dB from the reference"


def run(count: int, seed: int, tally: Tally) -> None:
    """Alter `count` folders, each family and kind as often as the others."""
    with tempfile.TemporaryDirectory(prefix="families-") as temporary:
        bases = {subject.name: Path(temporary) / subject.name for subject in SUBJECTS}
        for subject in SUBJECTS:
            subject.write(bases[subject.name])
            ended = run_forked(functools.partial(draw, subject, bases[subject.name]), 300, 16)
            assert (ended.kind, ended.text) == ("returned", ""), f"{subject.name}: {ended}"
        for i in range(count):
            subject, kind = SUBJECTS[i % len(SUBJECTS)], KINDS[i // len(SUBJECTS) % len(KINDS)]
            work, choose = Path(temporary) / str(i), random.Random(f"{seed} {i}")
            folder = Path(shutil.copytree(bases[subject.name], work / "student"))
            said = mutate_students.MUTATIONS[kind](folder, choose)
            ended = run_forked(functools.partial(draw, subject, folder), SECONDS, GIGABYTES)
            outcome = OUTSIDE if (work / "ran").exists() or was_read(work / "outside") else judge(ended.kind, ended.text)
            tally.add(f"{subject.name}, {kind}", outcome, f"{seed} {i}: {said}: {ended.kind} {ended.text[:300]}")
            shutil.rmtree(work, ignore_errors=True)
