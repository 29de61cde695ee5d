"""What holds of every family, shown on its `tiny()` twin from end to end; tests/extensions/ asks it of one that is not ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.conversion import convert
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.runtimes import open_bundle
from sprint_export.specialize import specialize_student
from sprint_export.students.family import Draws, Family
from tests.bundles import read_rows

PROMPTS = 2
STEPS = (1, 3)
FLOATS = ("fp32", "fp16", "bf16")


def check_drawing(family: Family, steps: int, student: Student | None = None, times: tuple[float, ...] = ()) -> None:
    """In float, the specialized student draws what the reference draws, with and without what optional networks take.

    Args:
        family: whose `tiny()` is drawn with.
        steps: of its own schedule.
        student: another one of it.
        times: given ones, as many as steps.
    """
    student = student or family.tiny()
    specialized = specialize_student(student, steps, times=times or None)
    noise = make_noise(7, steps, PROMPTS, student.latent_shape)
    draws = Draws(student.validation_prompts[:PROMPTS], noise, family.guidance, times=times)
    pipeline = open_torch(specialized)
    inputs = family.make_inputs(specialized, student.validation_prompts[:PROMPTS])
    drawn = []
    for given in (inputs, {}) if inputs else ({},):
        wanted = family.draw_reference(student, dataclasses.replace(draws, inputs=given))
        pictures = pipeline(draws.prompts, noise=noise, inputs=given)
        off = int(np.abs(pictures.astype(int) - wanted.pictures).max())
        assert wanted.pictures.std() > 10, "a flat picture proves nothing"
        assert off <= 1, f"a pixel is off by {off} of 255, tolerance 1 (rounding)"
        drawn.append(pictures)
    assert not inputs or not np.array_equal(drawn[0], drawn[1]), "what optional networks take changes nothing"
    assert set(wanted.seconds) <= set(student.chain.roles), "seconds are by role"


def check_conversion(
    family: Family,
    target: str,
    folder: Path,
    least_db: float,
    student: Student | None = None,
    least_converter_db: float = 40,
    **asked: Any,
) -> dict[tuple[str, str], float]:
    """The whole way: each exported network is what torch computes with the same rounding, and the pictures stay near.

    `asked` is what else `convert` takes.
    FP8 rounds to a sixteenth of a value: where 16-bit arithmetic before it falls on the other side, more is left over.
    """
    student = student or family.tiny()
    bundle = convert(student, target, folder, count=PROMPTS, **asked)
    rows = {name: row["value"] for name, row in read_rows(folder).items()}
    for role in student.components:
        found = rows[role, "converter_psnr_db"]
        assert found >= least_converter_db, f"{role}: {found:.1f} dB, at least {least_converter_db}"
    assert target.endswith(FLOATS) or rows["", "quantized_share"] >= 0.5, "the default recipe quantizes little of it"
    assert rows["", "psnr_db"] >= least_db, f"{rows['', 'psnr_db']:.1f} dB, at least {least_db}"
    assert {record.role for record in bundle.components} == set(student.components)
    pictures = open_bundle(folder)(student.validation_prompts[:1], seed=3)
    assert pictures.std() > 10, "a flat picture proves nothing"
    return rows
