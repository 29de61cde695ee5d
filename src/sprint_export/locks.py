"""One run at a time: a locked file that says who holds it, and that the system frees when its process ends, however it ends.

The file is removed by its holder while it is still locked. Whoever opened it just before then holds a file without a name, sees
that, and tries again; so no two ever hold the same name. POSIX: flock. Windows: a locked byte far behind the text.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sprint_export.errors import MachineError
from sprint_export.files import remove

UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of a file system without locks: then there is none
TRIES = 1000  # to open it, while others take it away
FAR = 1 << 30  # Windows locks bytes against reading too; the text stays readable
LONGEST_TEXT = 4096

_held: dict[Path, int] = {}  # by the thread that holds it, which may enter again


@contextlib.contextmanager
def hold_lock(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock of `path`, whose folder is made where it is missing; yields False in a thread that holds it already.

    Raises:
        MachineError: another process or thread holds it; the message says which, since when, and that it works on `what`.
    """
    me = threading.get_ident()
    if _held.get(path) == me:
        yield False
        return
    descriptor = _acquire(path, what)
    _held[path] = me
    try:
        yield True
    finally:
        del _held[path]
        _release(path, descriptor)


def _acquire(path: Path, what: str) -> int:
    for attempt in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except (FileNotFoundError, FileExistsError):  # its last holder took the folder away just now
            if attempt == TRIES - 1:
                raise
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            remove(path)  # a link or a folder of that name is no lock
            continue
        if _hold(descriptor, path, what):
            return descriptor
    raise MachineError(f"many runs work on {what}, one after the other; wait for them, or end them")


def _hold(descriptor: int, path: Path, what: str) -> bool:
    """Lock an open file and say who we are in it; False, and closed, where it is not the one of that name any more."""
    try:
        if not _lock(descriptor):
            raise MachineError(f"another run works on {what}: {_read_holder(path)}; wait for it, or end it")
        if _is_named(descriptor, path):
            _write_holder(descriptor)
            return True
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            remove(path)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return False


def _release(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # Windows removes no open file
        path.unlink()
    os.close(descriptor)
    with contextlib.suppress(OSError):  # another run has made one since, or holds it
        if os.name == "nt":
            path.unlink()


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in UNKNOWN
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is a plain one and still the one of that name."""
    mine = os.fstat(descriptor)
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(mine.st_mode) and os.path.samestat(mine, path.lstat())
    return False


def _write_holder(descriptor: int) -> None:
    """For people who meet the lock; on a full disk it holds without the text."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv)[:1000],
    }
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())


def _read_holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with path.open("rb") as file:
            found: dict[str, Any] = json.loads(file.read(LONGEST_TEXT))
        where = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
        return f"process {found['pid']}{where} since {found['since']} ({found['command']})"
    return "it has not said yet which it is"
