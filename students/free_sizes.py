"""Height and width of latents and pictures as free axes of a specialized student's specs (sizes.py says how they are written)."""

from __future__ import annotations

import dataclasses

from sprint_export.nouns.student import Student, TensorSpec
from sprint_export.sizes import SIDES, name_axis

TEXT = "text_encoder"  # the network that knows no size


def free_specs(student: Student, patch: int) -> Student:
    """The student with free sides wherever a spec has four axes, in multiples of `patch` latents, and a note that says so."""
    side = student.latent_shape[1]

    def free(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(_free_sides(spec, patch * int(spec.shape[2]) // side) if len(spec.shape) == 4 else spec for spec in specs)

    note = f"sizes: height and width are free; ranges and checks are those of latents of {side} x {side}"
    freed = {
        role: dataclasses.replace(c, inputs=free(c.inputs), outputs=free(c.outputs), notes=(*c.notes, note))
        for role, c in student.components.items()
        if role != TEXT
    }
    return dataclasses.replace(student, components={**student.components, **freed})


def _free_sides(spec: TensorSpec, multiple: int) -> TensorSpec:
    return dataclasses.replace(spec, shape=(*spec.shape[:2], *(name_axis(multiple, name) for name in SIDES)))
