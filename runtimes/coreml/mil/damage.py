"""What a damaged or edited package may hold: files are opened only inside it, and whatever reading it raises is one line."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from sprint_export.errors import BundleError

MOST_BYTES = 1 << 31  # of a program or a manifest: protobuf's own limit
READING = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def find_inside(package: Path, path: Path) -> Path:
    """A regular file of a package.

    Raises:
        BundleError: it is missing, no regular file, too large, or leads out of the package.
    """
    try:
        found = path.resolve(strict=True)
        mode, size = found.stat().st_mode, found.stat().st_size
        is_inside = found.is_relative_to(package.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        name = str(path.relative_to(package))[:200]
        raise BundleError(f"{package} has no {name} ({type(error).__name__}); export the student again") from error
    if not is_inside:
        raise BundleError(f"{path} leads outside the package, to {found}; do not use it")
    if not stat.S_ISREG(mode):
        raise BundleError(f"{path} is no file; export the student again")
    if path.suffix != ".bin" and size > MOST_BYTES:
        raise BundleError(f"{path} has {size} bytes, expected at most {MOST_BYTES}; do not use it")
    return found


@contextlib.contextmanager
def told_as_damage(package: Path) -> Iterator[None]:
    """Within, what torch, numpy or protobuf raise about a package's content becomes a BundleError; our own errors pass."""
    try:
        yield
    except MemoryError as error:
        raise BundleError(f"{package} asks for more memory than there is; export the student again") from error
    except READING as error:
        raise BundleError(f"{package} is damaged ({_first_line(error)}); export the student again") from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
