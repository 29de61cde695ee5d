"""The command's standard streams, whatever they are: closed, full, a pipe that ends, a locale that has no UTF-8.

    stdout  holds results: what cannot be written is an error (3), a reader that went away ends the command as SIGPIPE would (141)
    stderr  holds progress and errors: where it cannot be written the work goes on
    text    has no control characters: a bundle's licence or a checkpoint's names never steer the terminal
Standard library only.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from typing import Any, TextIO, cast

from sprint_export.errors import MachineError
from sprint_export.paths import check_utf8

PIPE_CLOSED = 141  # 128 + SIGPIPE
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # and those that reorder


class OutputError(MachineError):
    """Standard output cannot be written."""


def clean_text(text: str) -> str:
    r"""Control characters as escapes, e.g. ESC as \x1b; line ends and tabs stay."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def prepare_streams() -> None:
    """Put the null device where a stream is closed, and make all text writable; once, before anything is printed or opened."""
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # takes the lowest free number: a file of ours must not become one
            os.set_inheritable(number, True)
        os.close(number)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = cast("TextIO", GuardedStream(sys.stdout, is_vital=True))  # for what typer prints by itself too
    sys.stderr = cast("TextIO", GuardedStream(sys.stderr, is_vital=False))


def use_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding: libraries read text files in the locale's.

    Raises:
        InputError: an argument is not UTF-8 text.
    """
    if os.name == "posix" and codecs.lookup(sys.getfilesystemencoding()).name != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for argument in sys.argv[1:]:
        check_utf8("argument", argument)


class GuardedStream(io.TextIOBase):
    """A text stream that says in our words what cannot be written; `is_vital` is False for stderr, which may fail silently."""

    def __init__(self, stream: TextIO, is_vital: bool) -> None:
        self._stream, self._is_vital = stream, is_vital

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io says str, typeshed a plain attribute
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        return int(self._try(self._stream.write, text) or 0)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Any, *arguments: str) -> Any:
        try:
            return act(*arguments)
        except (OSError, ValueError) as error:
            _silence(self._stream)
            if not self._is_vital:
                return None
            if isinstance(error, BrokenPipeError):
                sys.exit(PIPE_CLOSED)
            raise OutputError(f"cannot write to standard output ({getattr(error, 'strerror', None) or error})") from error


def _silence(stream: TextIO) -> None:
    """Let what is still in its buffer go nowhere: Python flushes it at the end, and would complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say_error(text: str) -> None:
    """One line on stderr, without any library."""
    sys.stderr.write(clean_text(text).replace("\n", " ") + "\n")
    sys.stderr.flush()
