"""What `--out` may be, said before any work: a folder that is new, empty, or a bundle that may be kept or replaced."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sprint_export.bundle_files import MANIFEST, check_replaceable
from sprint_export.errors import BundleError, InputError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Order
from sprint_export.nouns.student import Student
from sprint_export.paths import is_folder, resolve_path


def name_bundle(order: Order) -> Path:
    """Where a bundle goes: `out`, or `<student>-<target>` in the working directory."""
    if order.out is not None:
        return Path(order.out)
    source = Path(order.student.source if isinstance(order.student, Student) else order.student)
    if is_folder(source):
        source = resolve_path("--student", source)  # "." has a name too
    return Path(f"{source.name.replace(':', '-')}-{order.target}")


def check_out(folder: Path, overwrite: bool = False) -> Path:
    """Refuse an output path that cannot become a bundle; a link to a folder is followed.

    Raises:
        InputError: it is a file, a loop of links, the working directory or a folder around it, or holds files that are no
            bundle's; or its parent is a file or not writable.
    """
    resolved = _follow(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; expected a folder that is new, empty or holds a bundle")
    if Path.cwd().is_relative_to(resolved):
        raise InputError(f"--out {folder} is where you are working, or around it; expected a folder of the bundle's own")
    if holds_anything(folder):
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"--out {folder} holds files but no {MANIFEST}, so it is not a bundle and is left alone; choose another "
                "folder, or empty it yourself"
            )
        if overwrite:
            check_replaceable(resolved)
    parent = folder.absolute().parent
    nearest = next(p for p in (parent, *parent.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"--out {folder}: {nearest} is not a folder that can be written to; choose another")
    return resolved if folder.is_symlink() else folder


def _follow(folder: Path) -> Path:
    """Where a path leads in the end."""
    with contextlib.suppress(RuntimeError):  # Python 3.11 and 3.12 say so of a loop; later ones return the link
        resolved = folder.resolve()
        if not resolved.is_symlink():
            return resolved
    raise InputError(f"--out {folder} leads through links that lead to themselves; choose another")


def holds_anything(folder: Path) -> bool:
    """Whether it is a folder with something in it."""
    return folder.is_dir() and next(folder.iterdir(), None) is not None


def read_present(folder: Path, overwrite: bool) -> Bundle | None:
    """The bundle that stands at `folder`, all its files compared with their hashes.

    Returns:
        None where there is none, or a damaged one that is about to be replaced.

    Raises:
        BundleError: it is damaged, or of another version, and may not be replaced.
    """
    from sprint_export.export.bundle import read_bundle

    if not holds_anything(folder):
        return None
    try:
        return read_bundle(folder)
    except BundleError as error:
        if overwrite:
            return None
        raise BundleError(f"{error}; to replace it, add --overwrite") from error
