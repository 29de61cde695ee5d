"""`--scorer 'NAME=COMMAND ...'`: a name for its rows, and the command line of its process. Standard library only."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from sprint_export.errors import InputError

OPTION = "--scorer"
EXAMPLE = "'image_reward=python image_reward.py'"
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True)
class ScorerCommand:
    """One scorer's process.

    Args:
        name: of its rows.
        arguments: the program, and what it is given; no shell reads them.
    """

    name: str
    arguments: tuple[str, ...]


def read_scorers(texts: Iterable[str | ScorerCommand]) -> tuple[ScorerCommand, ...]:
    """Each of NAME=COMMAND.

    Raises:
        InputError: one is not of that form, two have one name, or there is no such program; before any work.
    """
    commands = tuple(text if isinstance(text, ScorerCommand) else read_scorer(text) for text in texts)
    names = [command.name for command in commands]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{OPTION} {name}=... is there twice; expected a name of its own for each")
    return commands


def read_scorer(text: str) -> ScorerCommand:
    """That of NAME=COMMAND.

    Raises:
        InputError: as `read_scorers`.
    """
    name, sign, command = text.partition("=")
    name = name.strip()
    if not sign or NAME.fullmatch(name) is None:
        raise InputError(f"{OPTION} {text!r}: expected NAME=COMMAND, the name in small letters, digits and _; e.g. {EXAMPLE}")
    try:
        arguments = tuple(shlex.split(command))
    except ValueError as error:
        raise InputError(f"{OPTION} {text!r}: the command cannot be taken apart ({error})") from error
    if not arguments:
        raise InputError(f"{OPTION} {text!r}: no command; e.g. {EXAMPLE}")
    if shutil.which(arguments[0]) is None:
        raise InputError(f"{OPTION} {name}: no program {arguments[0]!r} here; give its path, or install it")
    return ScorerCommand(name, arguments)
