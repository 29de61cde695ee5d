"""The folder beside a bundle in which runs work on it, one at a time: `.<name>.partial`, held by a lock in it.

    lock        who works here, locked for as long as that run lives
    key         of the bundle that is being made
    bundle/     what will be renamed to the bundle's own place
    records/    what is finished of it, with the hashes of its files
    making/     the component that is being written
    old/        the bundle that was replaced, on its way out
    temporary/  what libraries write beside
A killed run leaves it for the next one; a run that ends by itself takes it away when nothing unfinished is in it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sprint_export.bundle_files import remove_bundle, sweep_bundle
from sprint_export.disk_errors import OUT_ADVICE, clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import remove, sweep_parts, sync_folder, temporary_files_in
from sprint_export.locks import hold_lock

LOCK, KEY, BUNDLE, RECORDS, MAKING, OLD, TEMPORARY = "lock", "key", "bundle", "records", "making", "old", "temporary"


def find_work_folder(folder: Path) -> Path:
    """Where one works on the bundle that is, or will be, at `folder`; a bundle still in its work folder belongs to that."""
    if folder.name == BUNDLE and folder.parent.name.startswith(".") and folder.parent.name.endswith(".partial"):
        return folder.parent
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def claim_bundle(folder: Path, advice: str = OUT_ADVICE) -> Iterator[Path]:
    """Work on the bundle at `folder` alone, with temporary files beside it and its disk's errors made clear.

    A thread that has claimed it already may do so again. Where the place beside it cannot be written to there is no lock: nobody
    can publish there, and single files are replaced whole.

    Args:
        folder: the bundle's own place, or a bundle that is still in its work folder.
        advice: what a user can do where it cannot be written to.

    Yields:
        The work folder.

    Raises:
        MachineError: another run works there, or the disk is full. InputError: it cannot be written to.
    """
    with clear_disk_errors(folder, advice):
        folder = folder.resolve()
        work = find_work_folder(folder)
        missing = [parent for parent in (work, *work.parents) if not parent.exists()]
        if not os.access(missing[-1].parent if missing else work, os.W_OK):
            yield work
            return
        _check_own(work)
        try:
            with hold_lock(work / LOCK, str(folder)) as is_first:
                if not is_first:
                    yield work
                    return
                sweep_parts(work)
                recover(folder, work)
                sweep_bundle(folder)
                with temporary_files_in(work / TEMPORARY):
                    yield work
        finally:
            _remove_empty([work, *(parent for parent in missing if parent != work)])


def recover(folder: Path, work: Path) -> None:
    """Put an old bundle back where a run was killed before the new one was there, or remove it where the new one is.

    Raises:
        InputError: a file that is not the bundle's came into the old one while it was replaced.
    """
    old = work / OLD
    if not os.path.lexists(old):
        return
    if not stat.S_ISDIR(old.lstat().st_mode):
        remove(old)
    elif not folder.exists():
        old.rename(folder)
        sync_folder(folder.parent)
    elif left := remove_bundle(old):
        raise InputError(
            f"{', '.join(left[:3])} came into the old bundle while it was replaced, and is kept at {old}; the new bundle stands. "
            "Move it away"
        )


def _check_own(work: Path) -> None:
    """Refuse what no run of ours can have made in the work folder's place; names within that are not ours are left alone."""
    if os.path.lexists(work) and not stat.S_ISDIR(work.lstat().st_mode):
        raise InputError(f"{work} is where this bundle is worked on, and is no folder; move it away")


def _remove_empty(folders: list[Path]) -> None:
    """Take away what this run made and does not need, from the inside out."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
