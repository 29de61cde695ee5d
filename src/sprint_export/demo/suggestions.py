"""Prompts that a page offers: the bundle's reference, then the student's own validation prompts, else this package's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sprint_export import students
from sprint_export.paths import is_file, read_user_text
from sprint_export.students.embedded import complete_folder
from sprint_export.students.source import is_embedded

FOLDER = Path(students.__file__).parent
GENERAL, OWN = "prompts.txt", "validation_prompts.txt"
MOST = 6
LONGEST = 48  # letters: what fits on a button


def choose_suggestions(first: Iterable[str], student: str) -> list[str]:
    """At most 6 prompts, each once.

    Args:
        first: these before all others.
        student: the name of the student that a bundle was made from.
    """
    prompts = (" ".join(prompt.split()) for prompt in (*first, *_read_prompts(student)))
    return [prompt for prompt in dict.fromkeys(prompts) if 0 < len(prompt) <= LONGEST][:MOST]


def _read_prompts(student: str) -> Iterator[str]:
    path = FOLDER / GENERAL
    if is_embedded(student):
        own = complete_folder(FOLDER / student.replace("-", "_")) / OWN
        path = own if is_file(own) else path
    for line in read_user_text("prompts", path).splitlines():
        if not line.startswith("#"):
            yield line
