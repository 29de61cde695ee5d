"""Pictures that an encoder and a ControlNet are calibrated and validated with: outlines of a few shapes, white on black.

Edges, scribbles and soft edges are what ControlNets are given; picture i depends on its place alone. Where a judge knows the
world of the prompts, it draws what steers to pictures of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.nouns.student import Student
from sprint_export.students.judge import list_judges

SHAPES = 4  # in a picture
STROKE = 1 / 64  # of the picture's side


def make_inputs(student: Student, prompts: Sequence[str], first: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Drawings and the scale 1, as far as the student's networks take them, a row a prompt [B, ...] by name; `first`: place."""
    names = student.chain.names
    made: dict[str, npt.NDArray[Any]] = {}
    for name, spec in student.chain.list_given(student.components).items():
        if name == names.source:
            made[name] = _draw(prompts, int(spec.shape[2]), first)
        elif name == names.scale:
            made[name] = np.ones(len(prompts), np.float32)
    return made


def _draw(prompts: Sequence[str], side: int, first: int) -> npt.NDArray[np.float32]:
    known = (judge.draw_controls(prompts, first) for judge in list_judges() if judge.knows(prompts, side))
    controls = next((drawn for drawn in known if drawn is not None), None)
    if controls is None:
        return np.stack([draw_outlines(first + i, side) for i in range(len(prompts))])
    return np.moveaxis(controls, 3, 1).astype(np.float32) / 127.5 - 1


def draw_outlines(number: int, side: int) -> npt.NDArray[np.float32]:
    """A picture in [-1, 1], float32 [3, side, side]: outlines of circles and squares."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[0:side, 0:side] / side
    lines = np.zeros((side, side))
    for is_round in random.integers(0, 2, SHAPES):
        right, down, radius = *random.uniform(0.2, 0.8, 2), random.uniform(0.08, 0.3)
        off = np.abs(np.stack([x - right, y - down]))
        distance = np.hypot(*off) if is_round else off.max(0)
        lines = np.maximum(lines, np.clip(1.5 - np.abs(distance - radius) / max(STROKE, 1 / side), 0, 1))
    picture: npt.NDArray[np.float32] = np.broadcast_to(2 * lines - 1, (3, side, side)).astype(np.float32)
    return picture
