"""What can be said of a picture beyond its distance from the reference: does it show what the prompt says?

A judge knows one world of prompts and pictures. `students/<world>/judge.py` declares it as `JUDGE = <Class>(name="<world>")` and
is light, as a family file is: every report asks every judge whether prompts and pictures are of its world.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from sprint_export.nouns.report import Measurement
from sprint_export.registry import list_members, load_member

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Judge(Protocol):
    """One world's rows of a report."""

    name: str
    metrics: tuple[str, ...]  # names of its rows
    needs: str  # what they take, in words

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def knows(self, prompts: Sequence[str], side: int | None = None) -> bool:
        """Whether these prompts, and pictures of this side in pixels (None: not known yet), are of its world."""

    @abstractmethod
    def list_right(self, prompts: Sequence[str], pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which pictures, uint8 [B, H, W, 3] of its world, show everything that their prompts say, bool [B]."""

    @abstractmethod
    def list_changed(self, exported: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which exported pictures show something else than the reference's, right or wrong, bool [B]."""

    def compare_controls(
        self, prompts: Sequence[str], exported: Iterable[npt.NDArray[np.uint8]], reference: Iterable[npt.NDArray[np.uint8]]
    ) -> list[Measurement]:
        """Rows about pictures that `draw_controls` steered, uint8 [H, W, 3], one by one."""
        return []

    def draw_controls(self, prompts: Sequence[str], first: int = 0) -> npt.NDArray[np.uint8] | None:
        """What steers a ControlNet to a picture of each prompt, uint8 [B, H, W, 3]; None where nothing in its world does.

        `first` is the place of the first of these prompts: a picture depends on its prompt and place alone.
        """
        return None


def list_judges() -> tuple[Judge, ...]:
    """All judges."""
    judges: list[Judge] = [load_member("judge", name).JUDGE for name in list_members("judge")]
    return tuple(judges)
