"""The command's two consoles, how much they say, and nothing that steers a terminal but rich's own styles."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sprint_export.streams import PIPE_CLOSED, clean_text

PIPE_WIDTH = 120  # columns of a table that goes to a file or a pipe


class CleanConsole(Console):
    """A console whose text cannot hold control characters, and that leaves as SIGPIPE would where its reader went away.

    What stands in brackets or between colons is text: names, notes and prompts are anybody's, in tables too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False} | options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments with control characters shown as escapes; rich's own stand in `control` and are not touched."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else clean_text(text), style, control)

    def on_broken_pipe(self) -> NoReturn:
        """Leave with the status a shell shows for SIGPIPE."""
        sys.exit(PIPE_CLOSED)


# These very streams: bars go on while a library's remarks are kept off the screen.
stdout = CleanConsole(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_WIDTH)
stderr = CleanConsole(file=sys.stderr)


@dataclass
class Verbosity:
    """How much stderr says: errors alone, what was decided too, or also what stands behind an error."""

    is_quiet: bool = False
    is_verbose: bool = False


verbosity = Verbosity()


def note(text: str) -> None:
    """A line about what was decided or found; nothing with --quiet."""
    if not verbosity.is_quiet:
        stderr.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """A line that is always said."""
    stderr.print(text, markup=False, highlight=False, soft_wrap=True)


def show(text: str) -> None:
    """A line of the result, whole, however long."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)
