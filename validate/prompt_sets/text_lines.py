"""A text file: one prompt a line; empty lines and lines that begin with # are left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sprint_export.errors import InputError
from sprint_export.paths import read_user_text
from sprint_export.validate.prompt_sets.prompt_set import PromptLayout, PromptSet


class TextLines(PromptLayout):
    """One prompt a line."""

    title, path = "one prompt a line", "a text file"

    def read(self, path: Path) -> PromptSet:
        return PromptSet(keep_prompts(read_user_text("--prompts", path).splitlines(), str(path)), title=path.name)


def keep_prompts(lines: Iterable[str], where: str) -> tuple[str, ...]:
    """The prompts among lines.

    Raises:
        InputError: there are none.
    """
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not prompts:
        raise InputError(f"--prompts {where} has no prompts; expected one a line")
    return prompts


PROMPT_SET = TextLines(name="text")
