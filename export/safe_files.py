"""Files of a folder that somebody else filled, opened only where they are what they seem.

A name must be one that every system can hold: relative, printable, with slashes, no part of it `..`. On the way to it, below the
folder, there may be no link, and what it names must be a regular file: a link leads out of the folder, a FIFO never ends, a
device has no size. The folder itself may be reached through links: they are the user's own.
Between this check and a later open by a library the folder must not change: who can write into it can change weights as well.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES_OF_A_NAME = 255  # of a part between slashes, in UTF-8: what file systems hold
MOST_BYTES_OF_A_PATH = 1024
BLOCK = 1 << 20


class FileError(Exception):
    """Why a file is not opened, as the end of a sentence about it."""


def find_path_fault(path: str) -> str | None:
    """Why a path of a manifest cannot be taken, or None."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or path[1:2] == ":" or "\\" in path:
        return "lies outside the bundle"
    if not path.isprintable():
        return "is no name of a file: it holds characters that cannot be printed"
    if any(part in ("", ".") for part in parts):
        return "is no name of a file in the bundle"
    if len(path.encode()) > MOST_BYTES_OF_A_PATH or any(len(part.encode()) > MOST_BYTES_OF_A_NAME for part in parts):
        return "is longer than names of files can be"
    return None


def check_way(folder: Path, path: str) -> os.stat_result:
    """What `path` below `folder` is: a regular file, no link on the way.

    Raises:
        FileError: it is something else. FileNotFoundError: nothing is there.
    """
    reached = folder
    parts = path.split("/")
    for i, part in enumerate(parts):
        reached /= part
        try:
            found = reached.lstat()
        except NotADirectoryError as error:
            raise FileNotFoundError(path) from error
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise FileError(f"cannot be opened ({error})") from error
        if stat.S_ISLNK(found.st_mode):
            raise FileError("lies outside the bundle" if i + 1 < len(parts) else "is a link, which may lie outside the bundle")
    if not stat.S_ISREG(found.st_mode):
        raise FileError("is no regular file")
    return found


def open_checked(folder: Path, path: str) -> BinaryIO:
    """The file for reading; it is asked again, once open, what it is.

    Raises:
        FileError: as `check_way`, or it may not be read. FileNotFoundError: nothing is there.
    """
    check_way(folder, path)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(folder / path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"cannot be opened ({error.strerror})") from error
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise FileError("is no regular file")
    return file


def hash_bytes(file: BinaryIO, size: int) -> str:
    """sha256 of the next `size` bytes, or of all there are where there are less; never more is read."""
    total = hashlib.sha256()
    while size > 0 and (block := file.read(min(BLOCK, size))):
        total.update(block)
        size -= len(block)
    return total.hexdigest()


def find_odd_entry(folder: Path) -> str | None:
    """The first entry below `folder` that is neither a regular file nor a folder, relative to it, or None.

    A graph may name files beside it, which its library opens by itself: beside a graph there must be nothing but files.
    """
    for parent, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            mode = (Path(parent) / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return (Path(parent) / name).relative_to(folder).as_posix()
    return None
