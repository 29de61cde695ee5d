"""Pictures of all entries from the same prompts and noise, in turn, so that a shared machine's drift meets all of them alike.

    for each prompt: one picture of each entry, beginning with another entry each time

What is wrong with a picture is noted and does not end the comparison: an entry that draws nothing has to be seen in the table.
Many pictures lie on a disk, and a comparison that was stopped goes on where it was (kept_turns.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.errors import SprintExportError
from sprint_export.progress import Progress, Step, quiet
from sprint_export.validate.comparing.comparison import CONSTANT, FAILED, NAN, SIZE, PictureFault
from sprint_export.validate.comparing.entry import Drawn, Entry, Label, Setting
from sprint_export.validate.comparing.kept_turns import KeptTurns, Shot, UInt8
from sprint_export.validate.rows import Rows

STEP = "comparing"
BLANK_LEVELS = 2.0  # of 255: a picture whose channels all deviate less from their mean shows nothing

Noise = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """What one entry drew.

    Args:
        pictures: uint8 [B, H, W, 3] by place; black where there is none.
        seconds: of each picture whose seconds are known.
        faults: in order of their places.
    """

    pictures: Rows
    seconds: Sequence[float] = ()
    faults: Sequence[PictureFault] = ()


@dataclass(frozen=True)
class Turns:
    """What all entries draw, and where their pictures go.

    Args:
        setting: prompts, sizes, times.
        make_noise: of the picture at a place, [steps, 1, *latents].
        kept: files of what was drawn.
        progress: is told (step, done, total).
        heed: is called before each prompt.
    """

    setting: Setting
    make_noise: Callable[[int], Noise]
    kept: KeptTurns
    progress: Progress = quiet
    heed: Callable[[], None] = lambda: None

    def locate(self, names: Sequence[str], place: int) -> list[Path]:
        """The file of each of the entries that draw this prompt in turn."""
        return self.kept.locate(names, self.setting.prompts[place], self.make_noise(place))


@dataclass
class _Growing:
    """A side as it is drawn: pictures, or where they lie."""

    pictures: list[UInt8] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: list[PictureFault] = field(default_factory=list)

    def add(self, shot: Shot, path: Path, is_kept: bool) -> None:
        """The next picture."""
        self.paths.append(path)
        if not is_kept:
            self.pictures.append(shot.picture)
        if shot.seconds is not None:
            self.seconds.append(shot.seconds)
        if shot.fault is not None:
            self.faults.append(shot.fault)


def draw_all(
    openers: Mapping[str, Callable[[], Entry]], turns: Turns, one_at_a_time: bool = False
) -> tuple[dict[str, Label], dict[str, Side]]:
    """What is known of each entry, and what it draws: all in turn, or each opened when those before it are dropped."""
    labels: dict[str, Label] = {}
    sides: dict[str, Side] = {}
    groups = [[name] for name in openers] if one_at_a_time else [list(openers)]
    for group in groups:
        entries = {name: openers[name]() for name in group}
        sides |= draw_sides(entries, turns)
        is_in_turn = len(group) == len(openers)
        labels |= {name: Label(each.description, each.bytes, each.is_measured, is_in_turn) for name, each in entries.items()}
        del entries
    return labels, sides


def draw_sides(entries: Mapping[str, Entry], turns: Turns) -> dict[str, Side]:
    """What each entry draws of all prompts; what is kept is not drawn, and each draws once before what it does, to warm up."""
    names, growing, prompts = list(entries), {name: _Growing() for name in entries}, turns.setting.prompts
    step, count, is_warm = Step(STEP, names[0] if len(names) == 1 else ""), len(prompts), False
    for place, prompt in enumerate(prompts):
        turns.progress(step, place, count)
        turns.heed()
        noise = turns.make_noise(place)
        paths = turns.kept.locate(names, prompt, noise)
        shots = turns.kept.recall(paths)
        if shots is None:
            if not is_warm:
                _warm_up(entries, place, prompt, noise)
                is_warm = True
            shots = _draw_turn(entries, place, noise, turns, paths)
        for name, shot, path in zip(names, shots, paths, strict=True):
            growing[name].add(shot, path, turns.kept.is_needed)
    turns.progress(step, count, count)
    return {name: _finish(each, turns) for name, each in growing.items()}


def _finish(drawn: _Growing, turns: Turns) -> Side:
    pictures: Rows = np.stack(drawn.pictures) if drawn.pictures else turns.kept.open_pictures(drawn.paths, turns.setting.pixels)
    return Side(pictures, drawn.seconds, drawn.faults)


def _warm_up(entries: Mapping[str, Entry], place: int, prompt: str, noise: Noise) -> None:
    for entry in entries.values():
        if entry.is_measured:
            _draw(entry, place, prompt, noise)


def _draw_turn(entries: Mapping[str, Entry], place: int, noise: Noise, turns: Turns, paths: Sequence[Path]) -> list[Shot]:
    """One prompt by all entries, which is kept; in the entries' own order."""
    prompt, pixels, start = turns.setting.prompts[place], turns.setting.pixels, time.monotonic()
    drawn = {
        name: judge_picture(_draw(entries[name], place, prompt, noise), place, pixels) for name in rotate(list(entries), place)
    }
    shots = [drawn[name] for name in entries]
    turns.kept.keep(paths, shots, time.monotonic() - start)
    return shots


def rotate(names: Sequence[str], place: int) -> list[str]:
    """All of them, beginning with another one at each place."""
    start = place % len(names)
    return [*names[start:], *names[:start]]


def _draw(entry: Entry, place: int, prompt: str, noise: Noise) -> Drawn | SprintExportError:
    try:
        return entry.draw(place, prompt, noise)
    except SprintExportError as error:
        return error


def judge_picture(drawn: Drawn | SprintExportError, place: int, pixels: tuple[int, int]) -> Shot:
    """A picture in uint8, its seconds and what is wrong with it; black where there is none of this height and width."""
    black = np.zeros((*pixels, 3), np.uint8)
    if isinstance(drawn, SprintExportError):
        return Shot(black, fault=PictureFault(place, FAILED, str(drawn)))
    fault = find_fault(drawn.picture, pixels)
    picture = round_picture(drawn.picture) if drawn.picture.shape == black.shape else black
    return Shot(picture, drawn.seconds, None if fault is None else PictureFault(place, *fault))


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
