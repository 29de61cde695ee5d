"""An option of a run: declared once, where it belongs, for the command line, its help and Python. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One thing that may be asked for: a keyword in Python, a flag on the command line, a line of its help.

    `kind` is the type of one value: str, int, float, Path, or bool for a flag without a value. A flag whose default is True is
    spelt by what turns it off: `flags=("--no-prefix-cache",)`.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    panel: str | None = None  # of the help
    flags: tuple[str, ...] = ()  # default: the name, with dashes
    metavar: str | None = None
    is_repeated: bool = False  # the flag may be given several times; the value is a list of them, or None
