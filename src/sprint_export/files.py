"""Files that are whole or absent, whenever the process or the power ends: written beside, flushed, renamed in one step.

    path <- rename <- .<stem>.<origin>.<pid>-<random>.part<suffix> <- write
A part's name is its process's own, so that two writers of one path never share one; `origin` is the machine (and container) in
which the pid means something. A part whose process is gone is litter, and swept by the next run. New files and folders get the
modes that open() and mkdir() give (0666 and 0777 less the umask), whatever a library made of them. Links are never followed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PART = re.compile(r"\.(?P<stem>.+)\.(?P<origin>[0-9a-f]{8})\.(?P<pid>\d+)-[0-9a-z_]{8}\.part(\.[^.]*)?")
STALE_SECONDS = 86_400  # a part of another machine, or of a pid that was given away again, is litter after a day
LONGEST_STEM = 100  # letters of a part's; a name may have 255 bytes
TRIES = 3  # of a write whose folder another run takes away


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file beside `path`, flush it, and rename it over `path`; the folder is made where it is missing.

    Raises:
        OSError: the disk is full or the folder cannot be written to; nothing is left beside `path`.
    """
    _check_place(path)
    for attempt in range(TRIES):
        try:
            _write_once(path, write)
            return
        except (FileNotFoundError, FileExistsError):
            if attempt == TRIES - 1:
                raise


def _check_place(path: Path) -> None:
    """See that nothing but a file, or a link, would be replaced: who may write to /dev would make a file of /dev/null.

    Raises:
        OSError: a folder, a device, a pipe or a socket is there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.ENODEV, "a device, a pipe or a socket is there, not a file", str(path))


def _write_once(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.absolute())
    part = name_part(path)
    try:
        with part.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        try:
            write(part)
        except Exception as error:  # a library's own, where another run took the folder away
            if part.exists():
                raise
            raise FileNotFoundError(f"{part.parent} was taken away") from error
        _settle_file(part, mode)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file by this text, in one step."""
    write_whole(path, lambda part: part.write_text(text, "utf-8"))


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Likewise by these bytes."""
    write_whole(path, lambda part: part.write_bytes(data))


def sign_text(content: str) -> str:
    """The content behind a line with its sha256."""
    return f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}"


def read_signed(text: bytes) -> str:
    """The content of what `sign_text` made.

    Raises:
        ValueError: it is damaged.
    """
    digest, _, content = text.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its sha256 is another")
    return content.decode()


def name_part(path: Path) -> Path:
    """A new name beside `path`, with its suffix: some libraries choose a format by it."""
    stem = path.stem[:LONGEST_STEM]
    return path.with_name(f".{stem}.{_origin()}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")


@functools.cache
def _origin() -> str:
    """Eight letters for the machine and, in a container, its space of pids."""
    space = ""
    with contextlib.suppress(OSError):  # Linux alone has it
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def sweep_parts(folder: Path) -> None:
    """Remove parts in `folder`, not below it, whose process is gone."""
    with contextlib.suppress(OSError):  # no folder
        for path in folder.iterdir():
            if is_stale_part(path):
                with contextlib.suppress(OSError):  # not ours to remove
                    remove(path)


@functools.cache
def _sweep_once(folder: Path) -> None:
    """Sweep a folder that this process writes to: who was killed there may have been typed again."""
    sweep_parts(folder)


def is_stale_part(path: Path) -> bool:
    """Whether `path` is named like a part and nobody writes it any more."""
    match = PART.fullmatch(path.name)
    if match is None:
        return False
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime > STALE_SECONDS:
            return True
    return match["origin"] == _origin() and not _is_alive(int(match["pid"]))


def find_other_part(folder: Path, stem: str) -> Path | None:
    """A part of this stem in `folder` that another living process made, or None."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = PART.fullmatch(path.name)
            if match is None or match["stem"] != stem or is_stale_part(path):
                continue
            if (match["origin"], int(match["pid"])) != (_origin(), os.getpid()):
                return path
    return None


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it; its parts are litter after a day
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def remove(path: Path) -> None:
    """Remove what is there: a file, a folder and all in it, or a link (not what it leads to); nothing is fine as well."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def list_tree(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder with its own status, folders before what is in them; links are not followed."""
    waiting = [_list_entries(folder)]  # no recursion: folders of others may be as deep as names may be long
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        status = entry.stat(follow_symlinks=False)
        yield Path(entry.path), status
        if stat.S_ISDIR(status.st_mode):
            waiting.append(_list_entries(entry.path))


def _list_entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    return iter(sorted(os.scandir(folder), key=lambda entry: entry.name))


def settle_folder(folder: Path) -> None:
    """Give all files and folders here the modes of new ones, and flush them to the disk."""
    mode = _find_mode(folder)
    reads = mode & 0o444
    for path, status in reversed([(folder, folder.lstat()), *list_tree(folder)]):
        if stat.S_ISREG(status.st_mode):
            _settle_file(path, mode)
        elif stat.S_ISDIR(status.st_mode):
            path.chmod(mode | reads >> 2)  # who may read a folder's names may enter it
            sync_folder(path)


def _find_mode(folder: Path) -> int:
    """What a new file gets here: 0666 less the umask, which cannot be read without changing it for all threads."""
    part = name_part(folder / "mode")
    try:
        with part.open("xb") as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    finally:
        part.unlink(missing_ok=True)


def _settle_file(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        path.chmod(mode)
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's names: a rename outlives a power cut after this. Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Libraries of this process make their temporary files here; all of it is removed at the end."""
    remove(folder)
    folder.mkdir(parents=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder among the system's temporary files, as `open_temporary_folder` makes it."""
    with open_temporary_folder() as folder:
        yield Path(folder)


def open_temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """One that lives as long as the object, named like a part: what a killed run left of such is removed first."""
    sweep_parts(Path(tempfile.gettempdir()))
    prefix = f".sprint-export.{_origin()}.{os.getpid()}-"
    return tempfile.TemporaryDirectory(suffix=".part", prefix=prefix, ignore_cleanup_errors=True)
