"""Paths and text files that a user names: whatever is wrong with one is an InputError that names it. Standard library only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sprint_export.errors import InputError

MOST_BYTES = 16_000_000  # of a file of prompts or rules


def is_file(path: Path) -> bool:
    """Whether a regular file is there; a name that no file can have is none."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether a folder is there; likewise."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError, RuntimeError):  # too long, a loop of links, no right to look; a NUL in it
        return 0


def resolve_path(what: str, path: Path) -> Path:
    """The path with `~` and links followed; what lies there under a name that begins with `~` is that.

    Raises:
        InputError: no such user, a loop of links, a NUL, a name that is no UTF-8, or a working directory that is gone.
    """
    check_utf8(what, str(path))
    try:
        return (path if os.path.lexists(path) else path.expanduser()).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} {_shorten(path)}: cannot be a path ({getattr(error, 'strerror', None) or error})") from error


def check_utf8(what: str, text: str) -> None:
    """Refuse bytes that are no UTF-8: the libraries behind this package take no other names.

    Raises:
        InputError: they are in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {os.fsencode(text)!r} is not UTF-8; rename it, or write it in UTF-8") from error


def read_user_text(what: str, path: Path) -> str:
    """The text of a regular file, without a byte order mark, line ends as one letter.

    Raises:
        InputError: it cannot be read as UTF-8 text, is no regular file, or is larger than any such file is.
    """
    try:
        kind = path.stat()
        if not (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):
            raise InputError(f"{what} {path}: cannot be read; expected a regular file, found a device, pipe or socket")
        if kind.st_size > MOST_BYTES and stat.S_ISREG(kind.st_mode):
            raise InputError(f"{what} {path} has {kind.st_size:,} bytes; expected at most {MOST_BYTES:,}")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path}: cannot be read as UTF-8 text ({error})") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} {_shorten(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _shorten(path: Path, most: int = 200) -> str:
    text = str(path)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} letters)"
