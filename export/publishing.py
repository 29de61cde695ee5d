"""A bundle is gathered in its work folder, and published in one step: at every moment the old or the new one is whole.

    work folder: bundle/ + records/  --sweep, flush-->  --exchange with what is there (or rename)-->  the bundle's own place
On Linux two folders change places in one call (renameat2 with RENAME_EXCHANGE). Elsewhere the old bundle is renamed into the
work folder, then the new one in; a run killed between leaves no bundle for that moment, and the next puts the old one back
(`work_folder.recover`) before it goes on. Work is not thrown away before its bundle stands.

A component counts as finished by the sizes and hashes in its record, not by its names: a power cut may leave files of zeros.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sprint_export.bundle_files import MANIFEST, check_replaceable
from sprint_export.errors import BundleError
from sprint_export.export.bundle import hash_file
from sprint_export.files import list_tree, read_signed, remove, settle_folder, sign_text, sync_folder, write_text
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.work_folder import BUNDLE, KEY, MAKING, OLD, RECORDS, claim_bundle, recover

AT_WORKING_FOLDER, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@dataclass(frozen=True)
class Finished:
    """A component whose files are whole: its record, and (bytes, sha256) by path in the component's folder."""

    record: ComponentRecord
    files: Mapping[str, tuple[int, str]]


def open_work_folder(work: Path, key: str) -> Path:
    """The folder in which a bundle is gathered; what another recipe or student left there is removed."""
    if _read_plain(work / KEY) != key.encode():
        discard_work(work)
    for folder in (work / BUNDLE, work / RECORDS):
        if not _is_folder(folder):
            remove(folder)
            folder.mkdir()
    for path in (work / KEY, work / BUNDLE / MANIFEST):
        if not _is_plain(path):
            remove(path)
    write_text(work / KEY, key)
    return work / BUNDLE


def discard_work(work: Path, key: str | None = None) -> None:
    """Take away what is gathered in a work folder; with a key, only where it is that bundle's."""
    if key is None or _read_plain(work / KEY) == key.encode():
        for name in (BUNDLE, RECORDS, MAKING, KEY):
            remove(work / name)


def write_component(folder: Path, write: Callable[[Path], ComponentRecord]) -> Finished:
    """Have `write` fill a folder of its own, flush it, and put it at `folder` of a bundle in its work folder, with its record."""
    making = folder.parent.with_name(MAKING)
    remove(making)
    making.mkdir()
    record = write(making)
    settle_folder(making)
    finished = Finished(record, {path: _describe(making / path) for path in list_plain(making)})
    remove(_record_path(folder))
    remove(folder)
    making.rename(folder)
    sync_folder(folder.parent)
    _write_record(_record_path(folder), finished)
    return finished


def read_component(folder: Path) -> Finished | None:
    """What an interrupted run finished at `folder` of a bundle in its work folder; None where it did not.

    Raises:
        BundleError: it was finished and is damaged since.
    """
    path = _record_path(folder)
    text = _read_plain(path)
    if text is None:
        return None
    try:
        value = json.loads(read_signed(text))
        files = {name: (int(size), str(sha256)) for name, (size, sha256) in value["files"].items()}
        finished = Finished(from_json(ComponentRecord, value["record"]), files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(f"{path} is damaged ({error})") from error
    if finished.record.role != folder.name or not finished.files:
        raise BundleError(f"{path} is another component's")
    for name, described in finished.files.items():
        if not _is_plain(folder / name) or _describe(folder / name) != described:
            raise BundleError(f"{folder / name} is not what was written there")
    return finished


def _record_path(folder: Path) -> Path:
    return folder.parent.with_name(RECORDS) / f"{folder.name}.json"


def _write_record(path: Path, finished: Finished) -> None:
    write_text(path, sign_text(json.dumps({"record": to_json(finished.record), "files": finished.files}, indent=1)))


def list_plain(folder: Path) -> list[str]:
    """Paths of the plain files below a folder, relative to it."""
    return [path.relative_to(folder).as_posix() for path, status in list_tree(folder) if stat.S_ISREG(status.st_mode)]


def _describe(path: Path) -> tuple[int, str]:
    return path.stat().st_size, hash_file(path)


def _is_plain(path: Path) -> bool:
    """Whether a plain file is there, through no link: a device or a pipe would be read for ever."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _read_plain(path: Path) -> bytes | None:
    return path.read_bytes() if _is_plain(path) else None


def publish_bundle(bundle: Bundle, out: Path) -> Bundle:
    """Put a finished bundle where it belongs, in place of the bundle that is there, and clear its work folder.

    Raises:
        InputError: something else than a bundle is at `out`; the finished one stays in its work folder.
    """
    with claim_bundle(out) as work:
        _sweep_unnamed(bundle)
        settle_folder(bundle.folder)
        if _is_vacant(out):
            if out.exists():
                out.rmdir()
            bundle.folder.rename(out)
        else:
            check_replaceable(out)
            _replace(bundle.folder, out, work / OLD)
        sync_folder(out.parent)
        recover(out, work)
        discard_work(work)
    return replace(bundle, folder=out)


def _is_vacant(folder: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and next(folder.iterdir(), None) is None)


def _replace(new: Path, out: Path, old: Path) -> None:
    """`new` to `out`, and what was there to `old`."""
    remove(old)
    if exchange(new, out):
        new.rename(old)
    else:
        out.rename(old)
        new.rename(out)


def exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; False where the system or its disk cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    done = call(AT_WORKING_FOLDER, os.fsencode(first.absolute()), AT_WORKING_FOLDER, os.fsencode(second.absolute()), EXCHANGE)
    return bool(done == 0)


def _sweep_unnamed(bundle: Bundle) -> None:
    """Remove what the manifest does not name: what killed runs, other recipes and libraries left."""
    named = {MANIFEST, *(artifact.path for artifact in bundle.artifacts)}
    around = {parent.as_posix() for name in named for parent in Path(name).parents}
    for path, status in list(list_tree(bundle.folder)):
        name = path.relative_to(bundle.folder).as_posix()
        is_kept = name in around if stat.S_ISDIR(status.st_mode) else name in named and stat.S_ISREG(status.st_mode)
        if not is_kept:
            remove(path)
