"""Pictures of all entries from the same prompts and noise, in turn, so that a shared machine's drift meets all of them alike.

    for each prompt: one picture of each entry, beginning with another entry each time

What is wrong with a picture is noted and does not end the comparison: an entry that draws nothing has to be seen in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.errors import SprintExportError
from sprint_export.progress import Progress, Step, quiet
from sprint_export.validate.comparing.comparison import PictureFault
from sprint_export.validate.comparing.entry import Drawn, Entry, Label, Setting

UInt8 = npt.NDArray[np.uint8]
STEP = "comparing"
BLANK_LEVELS = 2.0  # of 255: a picture whose channels all deviate less from their mean shows nothing
NAN, CONSTANT, SIZE, FAILED = "NaN", "constant", "size", "failed"


@dataclass
class Side:
    """What one entry drew.

    Args:
        pictures: uint8 [H, W, 3] by place; black where there is none.
        seconds: of each picture whose seconds are known.
        faults: in order of their places.
    """

    pictures: list[UInt8] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: list[PictureFault] = field(default_factory=list)


def draw_all(
    openers: Mapping[str, Callable[[], Entry]],
    setting: Setting,
    noise: npt.NDArray[np.float32],
    one_at_a_time: bool = False,
    progress: Progress = quiet,
) -> tuple[dict[str, Label], dict[str, Side]]:
    """What is known of each entry, and what it draws: all in turn, or each opened when those before it are dropped."""
    labels: dict[str, Label] = {}
    sides: dict[str, Side] = {}
    groups = [[name] for name in openers] if one_at_a_time else [list(openers)]
    for group in groups:
        entries = {name: openers[name]() for name in group}
        sides |= draw_sides(entries, setting, noise, progress)
        is_in_turn = len(group) == len(openers)
        labels |= {name: Label(each.description, each.bytes, each.is_measured, is_in_turn) for name, each in entries.items()}
        del entries
    return labels, sides


def draw_sides(
    entries: Mapping[str, Entry], setting: Setting, noise: npt.NDArray[np.float32], progress: Progress = quiet
) -> dict[str, Side]:
    """What each entry draws of noise [steps, B, *latents]; the first picture of each is drawn once before, to warm up."""
    names, sides = list(entries), {name: Side() for name in entries}
    for name in names:
        if entries[name].is_measured:
            _draw(entries[name], 0, setting, noise)
    for place in range(len(setting.prompts)):
        progress(Step(STEP), place, len(setting.prompts))
        for name in rotate(names, place):
            _keep(sides[name], _draw(entries[name], place, setting, noise), place, setting.pixels)
    progress(Step(STEP), len(setting.prompts), len(setting.prompts))
    return sides


def rotate(names: Sequence[str], place: int) -> list[str]:
    """All of them, beginning with another one at each place."""
    start = place % len(names)
    return [*names[start:], *names[:start]]


def _draw(entry: Entry, place: int, setting: Setting, noise: npt.NDArray[np.float32]) -> Drawn | SprintExportError:
    try:
        return entry.draw(place, setting.prompts[place], noise[:, place : place + 1])
    except SprintExportError as error:
        return error


def _keep(side: Side, drawn: Drawn | SprintExportError, place: int, pixels: tuple[int, int]) -> None:
    """Note a picture, its seconds and what is wrong with it."""
    picture = np.zeros((*pixels, 3), np.uint8)
    if isinstance(drawn, SprintExportError):
        side.faults.append(PictureFault(place, FAILED, str(drawn)))
        side.pictures.append(picture)
        return
    fault = find_fault(drawn.picture, pixels)
    if fault is not None:
        side.faults.append(PictureFault(place, *fault))
    if drawn.picture.shape == picture.shape:
        picture = round_picture(drawn.picture)
    side.pictures.append(picture)
    if drawn.seconds is not None:
        side.seconds.append(drawn.seconds)


def find_fault(picture: npt.NDArray[Any], pixels: tuple[int, int]) -> tuple[str, str] | None:
    """What is wrong with a picture, uint8 or float in [0, 1]: a word and a sentence; None where nothing is."""
    if picture.shape != (*pixels, 3):
        return SIZE, f"{list(picture.shape)}, expected {[*pixels, 3]}"
    if not np.isfinite(picture).all():
        share = 1 - float(np.isfinite(picture).mean())
        return NAN, f"{100 * share:.3g} % of its values are NaN or infinite"
    deviation = float(round_picture(picture).reshape(-1, 3).astype(np.float64).std(axis=0).max())
    if deviation < BLANK_LEVELS:
        return CONSTANT, f"one colour: channels deviate at most {deviation:.2g} of 255 from their mean"
    return None


def round_picture(picture: npt.NDArray[Any]) -> UInt8:
    """uint8 as it is; floats in [0, 1] to 0 ... 255, what is no number to 0."""
    if picture.dtype == np.uint8:
        return np.asarray(picture, np.uint8)
    rounded: UInt8 = np.rint(np.clip(np.nan_to_num(picture, nan=0.0, posinf=0.0, neginf=0.0), 0, 1) * 255).astype(np.uint8)
    return rounded
