"""Folders of pictures for tests, and a setting without a student's networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from diffusers import SanaSprintPipeline
from PIL import Image

from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, quiet
from sprint_export.validate.comparing.drawing import Turns
from sprint_export.validate.comparing.entry import Setting
from sprint_export.validate.comparing.kept_turns import KeptTurns
from sprint_export.validate.kept import Kept
from sprint_export.validate.side_by_side import UNFINISHED
from tests.made_student import Array, draw_stock

PROMPTS = ("a red circle", "a blue square", "a green triangle")
SIDE = 32
PIXELS = (SIDE, SIDE)
STUDENT_SIDE = 64  # of made_student's pictures
UInt8 = npt.NDArray[np.uint8]


def make_setting(prompts: Sequence[str] = PROMPTS, seed: int = 0) -> Setting:
    """Of one step; its student is not asked for."""
    return Setting(cast(Student, None), prompts, seed, (1.0,), 4.5, PIXELS)


def make_turns(names: Iterable[str], noise: Array, is_needed: bool = False, progress: Progress = quiet) -> Turns:
    """Of PROMPTS by entries of these names, with noise [steps, B, *latents]; `is_needed`: pictures lie in files."""
    kept = KeptTurns(Kept(UNFINISHED, "of tests"), "a question", {name: name for name in names}, is_needed)
    return Turns(make_setting(), lambda place: noise[:, place : place + 1], kept, progress)


def make_pictures(count: int = len(PROMPTS), seed: int = 0) -> UInt8:
    """uint8 [count, SIDE, SIDE, 3], each another."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def draw_right(folder: Path, prompts: Sequence[str], noise: Array) -> UInt8:
    """What stock diffusers draws of a folder: uint8 [B, H, W, 3]; noise [steps, B, *latents]."""
    pipeline = SanaSprintPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    each = [draw_stock(pipeline, prompt, noise[:, i : i + 1], STUDENT_SIDE)[1] for i, prompt in enumerate(prompts)]
    return np.concatenate(each)


def write_pictures(folder: Path, pictures: UInt8, rows: Any = None, prompts: Sequence[str] = PROMPTS) -> Path:
    """A folder as any program may leave it: 0.png, ... and the prompts; `rows` becomes prompts.json in place of prompts.txt."""
    folder.mkdir()
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{place}.png")
    if rows is None:
        (folder / "prompts.txt").write_text("\n".join(prompts), "utf-8")
    else:
        (folder / "prompts.json").write_text(json.dumps(rows), "utf-8")
    return folder
