"""Prompts with what their set has beside them: pictures, scenes to look for, questions to ask. Standard library only.

A PromptSet is a sequence of texts, so that it goes wherever prompts go; its first N are a PromptSet too.
`validate/prompt_sets/<file>.py` declares a layout as `PROMPT_SET = <Class>(name="<name>")`; on the command line that is
`--prompts NAME:PATH`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, overload

from sprint_export.errors import InputError
from sprint_export.registry import list_members, load_member
from sprint_export.students.folder import find_snapshot

MOST_PROMPTS = 100_000
LONGEST_PROMPT = 10_000  # letters


@dataclass(frozen=True)
class WantedObject:
    """Things of one kind that a picture shall show.

    Args:
        name: of their class.
        count: how many there shall be at least.
        color: of these; "" leaves it open.
        relation: where they lie: "left of", "right of", "above" or "below"; "" leaves it open.
        beside: the place among the scene's wanted objects of what they lie so to.
    """

    name: str
    count: int = 1
    color: str = ""
    relation: str = ""
    beside: int = 0


@dataclass(frozen=True)
class WantedScene:
    """What a picture shall show, and what not.

    Args:
        wanted: objects.
        limits: (class, count): fewer than so many of a class; what makes "at least" an exact count.
        tag: the kind of prompt, in its set's words.
    """

    wanted: tuple[WantedObject, ...]
    limits: tuple[tuple[str, int], ...] = ()
    tag: str = ""


@dataclass(frozen=True)
class Question:
    """One to ask of a picture: the answer that is right, and what it tests."""

    text: str
    answer: str
    skill: str = ""


@dataclass(frozen=True)
class PromptSet(Sequence[str]):
    """Prompts in order.

    Args:
        texts: B of them.
        originals: a picture for each, or none at all.
        scenes: likewise.
        questions: likewise, some for each.
        title: the set, in words.
    """

    texts: tuple[str, ...]
    originals: tuple[Path, ...] = ()
    scenes: tuple[WantedScene, ...] = ()
    questions: tuple[tuple[Question, ...], ...] = ()
    title: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for beside in (self.originals, self.scenes, self.questions):
            assert len(beside) in (0, len(self.texts)), "one for each prompt, or none"

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> PromptSet: ...
    def __getitem__(self, place: int | slice) -> str | PromptSet:
        if isinstance(place, int):
            return self.texts[place]
        return PromptSet(self.texts[place], self.originals[place], self.scenes[place], self.questions[place], self.title)


class PromptLayout(Protocol):
    """How one set lies on a disk."""

    name: str
    title: str  # the set, whose, and what of it is read
    path: str  # what the user gives, in words

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def read(self, path: Path) -> PromptSet:
        """The set at a path.

        Raises:
            InputError: it is not there, damaged, or larger than any such set; the message names file and line.
        """


def read_prompt_set(text: str) -> PromptSet:
    """The set of `NAME:PATH`, or of the path of a text file with one prompt a line.

    Raises:
        InputError: there is no such layout, or as `PromptLayout.read`.
    """
    name, colon, path = text.partition(":")
    is_drive = len(name) == 1  # C:\prompts.txt
    if not colon or is_drive or Path(text).exists():
        return load_layout("text").read(Path(text))
    if name not in list_members("prompt_set"):
        layouts = ", ".join(f"{each}:PATH" for each in list_members("prompt_set"))
        raise InputError(
            f"--prompts {text}: no such file, and {name!r} is no set of prompts; expected a text file, or: {layouts}"
        )
    return load_layout(name).read(Path(path))


def load_layout(name: str) -> PromptLayout:
    """The layout of this name.

    Raises:
        InputError: there is none.
    """
    layout: PromptLayout = load_member("prompt_set", name).PROMPT_SET
    return layout


def check_prompt(where: str, value: object) -> str:
    """A prompt as read from a file.

    Raises:
        InputError: it is no text, empty, or longer than any prompt; the message begins with `where`.
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: the prompt is {type(value).__name__}, expected a text")
    text = " ".join(value.split())
    if not 0 < len(text) <= LONGEST_PROMPT:
        raise InputError(f"{where}: the prompt has {len(text):,} letters; expected 1 to {LONGEST_PROMPT:,}")
    return text


def check_inside(where: str, folder: Path, paths: Iterable[Path]) -> None:
    """Refuse links out of a set's folder: what they lead to would stand in a report. The hub's cache links to its own blobs.

    Raises:
        InputError: there is one; the message begins with `where`.
    """
    home = folder.resolve()
    snapshot = find_snapshot(home)
    homes = (home, *(() if snapshot is None else (snapshot.parent.parent / "blobs",)))
    for path in paths:
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise InputError(f"{where}: {path} cannot be opened ({error}); expected a file") from error
        if not any(real.is_relative_to(each) for each in homes):
            raise InputError(f"{where}: {path} is a link out of {folder}, to {real}; put the file itself there")


def check_count(where: str, count: int) -> None:
    """Refuse a set without prompts, or with more than any has.

    Raises:
        InputError: the message begins with `where`.
    """
    if not 0 < count <= MOST_PROMPTS:
        raise InputError(f"{where} has {count:,} prompts; expected 1 to {MOST_PROMPTS:,}")
