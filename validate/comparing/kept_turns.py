"""Pictures of entries as files of the cache, one of each entry and prompt, until the page is written.

They are read back when somebody looks at them, and not drawn again by a comparison that goes on. Entries draw a prompt in turn,
so that their seconds are pairs: where the file of one of them is missing or damaged, all draw that prompt again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.cache import hash_question
from sprint_export.files import list_tree
from sprint_export.validate.comparing.comparison import FAILED, PictureFault
from sprint_export.validate.kept import LEAST_SECONDS, Kept
from sprint_export.validate.rows import KeptRows

UInt8 = npt.NDArray[np.uint8]
PICTURE, SECONDS, FAULT = "picture", "seconds", "fault"  # in a file


@dataclass(frozen=True)
class Shot:
    """A picture uint8 [H, W, 3], its seconds where they are known, and what is wrong with it where something is."""

    picture: UInt8
    seconds: float | None = None
    fault: PictureFault | None = None


@dataclass(frozen=True)
class KeptTurns:
    """Where the pictures of entries that draw in turn are kept.

    Args:
        kept: until the page is written.
        question: what decides all pictures, beside entry, prompt and noise.
        entries: what decides an entry's own, by its name.
        is_needed: pictures are read from there, and not held; else they are there for a run that goes on.
    """

    kept: Kept
    question: str
    entries: Mapping[str, str]
    is_needed: bool

    def locate(self, names: Sequence[str], prompt: str, noise: npt.NDArray[np.float32]) -> list[Path]:
        """The file of each of the entries that draw this prompt in turn."""
        others = sorted(self.entries[name] for name in names)
        asked = [[self.question, self.entries[name], others, prompt] for name in names]
        return [self.kept.locate(each, {"noise": noise}) for each in asked]

    def recall(self, paths: Sequence[Path]) -> list[Shot] | None:
        """What a turn gave in an earlier run; None where it is not all there, or could not all be drawn."""
        shots = []
        for path in paths:
            values = self.kept.read(path)
            if values is None:
                return None
            shots.append(_read_shot(values))
        return None if any(shot.fault is not None and shot.fault.kind == FAILED for shot in shots) else shots

    def keep(self, paths: Sequence[Path], shots: Sequence[Shot], seconds: float) -> None:
        """Keep what a turn gave, which took so many seconds: where it is needed, or would take long again.

        Raises:
            MachineError: it is needed, and cannot be written.
        """
        if not self.is_needed and seconds < LEAST_SECONDS:
            return
        for path, shot in zip(paths, shots, strict=True):
            self.kept.write(path, _describe_shot(shot), self.is_needed)

    def open_pictures(self, paths: Sequence[Path], pixels: tuple[int, int]) -> KeptRows:
        """The pictures of one entry, uint8 [B, H, W, 3]."""
        return KeptRows(self.kept, tuple(paths), PICTURE, (*pixels, 3), np.dtype(np.uint8))


def _describe_shot(shot: Shot) -> dict[str, npt.NDArray[Any]]:
    fault = "" if shot.fault is None else json.dumps(asdict(shot.fault))
    seconds = math.nan if shot.seconds is None else shot.seconds
    return {PICTURE: shot.picture, SECONDS: np.array(seconds), FAULT: np.array(fault)}


def _read_shot(values: Mapping[str, npt.NDArray[Any]]) -> Shot:
    seconds, fault = float(values[SECONDS]), str(values[FAULT])
    known = None if math.isnan(seconds) else seconds
    return Shot(values[PICTURE], known, PictureFault(**json.loads(fault)) if fault else None)


def describe_folder(kind: str, folder: Path) -> str:
    """What decides an entry's pictures: its kind, its place, size and time of each file: contents may be gigabytes."""
    files = [(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns) for path, status in list_tree(folder)]
    return hash_question([kind, str(folder.resolve()), files])
