"""A kind of entry in one file: folders with a mirror.txt draw noise as grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.validate.comparing.entry import Drawn, Entry, EntryKind, Setting

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Mirrors(EntryKind):
    """What no program makes."""

    title, holds, rank = "a mirror", "mirror.txt", 9

    def opens(self, folder: Path) -> bool:
        return (folder / "mirror.txt").is_file()

    def open(self, folder: Path, setting: Setting) -> Entry:
        return Mirror(setting.pixels, "mirror", (folder / "mirror.txt").stat().st_size)


@dataclass
class Mirror(Entry):
    """Draws the noise."""

    pixels: tuple[int, int]
    description: str
    bytes: int | None
    is_measured: bool = True

    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        import numpy as np

        height, width = self.pixels
        grey = np.resize(noise, (height, width, 1)) / 8 + 0.5
        return Drawn(np.broadcast_to(grey, (height, width, 3)), 0.001)


ENTRY = Mirrors(name="mirror")
