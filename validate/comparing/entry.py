"""The Protocol of what can be compared, and what it is given. No torch.

`validate/comparing/entries/<file>.py` declares a kind as `ENTRY = <Class>(name="<name>")` and imports its libraries inside
methods: kinds are listed without them. A folder is anybody's: nothing in it is executed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members, load_member

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[Any]  # uint8, or float in [0, 1] where numbers that are none can stand

MOST_LISTED = 6  # names in a message


@dataclass(frozen=True)
class Setting:
    """What every entry draws.

    Args:
        student: unspecialized.
        prompts: B texts.
        seed: of the first picture; picture i has `seed + i`.
        times: flow times, noise first.
        guidance: scale.
        pixels: height and width of the pictures.
    """

    student: Student
    prompts: Sequence[str]
    seed: int
    times: tuple[float, ...]
    guidance: float
    pixels: tuple[int, int]


@dataclass(frozen=True)
class Drawn:
    """One picture [H, W, 3], uint8 or float in [0, 1], and the seconds it took; None where nobody knows."""

    picture: Picture
    seconds: float | None


@dataclass(frozen=True)
class Label:
    """What is known of an entry beside its pictures: the fields of `Entry`, and whether it drew in turn with the others."""

    description: str
    bytes: int | None
    is_measured: bool
    is_in_turn: bool = True


class Entry(Protocol):
    """One of those that are compared, opened."""

    description: str  # what made the pictures, in words
    bytes: int | None  # of graphs and weights on disk; None where nobody knows
    is_measured: bool  # whether `seconds` are this machine's, of this run, and not what somebody wrote down

    @abstractmethod
    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        """One picture of noise [steps, 1, *latents], of unit variance; `place` is the prompt's, from 0.

        Raises:
            SprintExportError: it cannot be drawn.
        """


class EntryKind(Protocol):
    """One kind of folder."""

    name: str
    title: str  # in a table
    holds: str  # how such a folder is told, for errors
    rank: int = 0  # of several kinds that open a folder the highest does

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def opens(self, folder: Path) -> bool:
        """Whether a folder is of this kind, by the names of its files alone."""

    def weigh(self, folder: Path) -> int:
        """Bytes of graphs and weights, which are in memory while it draws; 0 of what is drawn already."""
        return 0

    @abstractmethod
    def open(self, folder: Path, setting: Setting) -> Entry:
        """The folder's entry.

        Raises:
            InputError, BundleError: its files do not fit the student, the prompts or the pictures.
            MachineError: a library is missing.
        """


def list_kinds() -> tuple[EntryKind, ...]:
    """All kinds, those that come first when several open a folder first."""
    kinds: list[EntryKind] = [load_member("entry", name).ENTRY for name in list_members("entry")]
    return tuple(sorted(kinds, key=lambda kind: (-kind.rank, kind.name)))


def find_kind(folder: Path) -> EntryKind:
    """The kind of a folder.

    Raises:
        InputError: there is no such folder, or no kind opens it; the message says what was found and expected.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise InputError(f"{folder} {what}; expected a folder: {_list_expected()}")
    for kind in list_kinds():
        if kind.opens(folder):
            return kind
    raise InputError(f"{folder} holds {list_names(folder)}; expected {_list_expected()}")


def _list_expected() -> str:
    return ", or ".join(f"{kind.title} ({kind.holds})" for kind in list_kinds())


def list_names(folder: Path, most: int = MOST_LISTED) -> str:
    """The first names in a folder, for errors."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


def weigh_files(folder: Path, patterns: Sequence[str]) -> int:
    """Bytes of the regular files below a folder that these patterns name."""
    return sum(path.stat().st_size for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
