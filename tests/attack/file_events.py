"""End a process at its k-th change of a file, or at a moment: Python tells an audit hook of each change before it is made.

Opening to write, renaming, removing, making folders, changing modes; what native code writes by itself is between two of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch_changes(act: Callable[[int, str], None]) -> None:
    """Call `act` with 1, 2, ... and the path before each change of a file that this process makes from now on; for good.

    Where `act` raises, the change is not made.
    """
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in CHANGES or (event == "open" and is_write(*arguments)):
            count += 1
            act(count, _find_path(arguments[0]))

    sys.addaudithook(hook)


def _find_path(said: Any) -> str:
    """The whole path that an event names; "" of an open file's number."""
    return "" if isinstance(said, int) else str(Path.cwd() / os.fsdecode(said))


def is_write(path: Any, mode: Any, flags: Any) -> bool:
    """Whether an open event is one that may change a file; pipes and devices are none."""
    if not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path).startswith(("/dev/", "/proc/")):
        return False
    return isinstance(flags, int) and bool(flags & WRITES)


def die_at(number: int, how: signal.Signals = signal.SIGKILL) -> None:
    """A signal for this process at its change of that number."""

    def act(count: int, _: str) -> None:
        if count == number:
            os.kill(os.getpid(), how)

    watch_changes(act)


def fail_from(number: int, code: int, folder: Path) -> None:
    """From its change of that number on, all that this process changes below `folder` fails as a disk does, with this errno."""

    def act(count: int, path: str) -> None:
        if count >= number and path.startswith(str(folder)):
            raise OSError(code, os.strerror(code), path)

    watch_changes(act)


def die_after(seconds: float) -> None:
    """The end of this process, without a word, in the midst of whatever it does then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def count_to(path: Path) -> None:
    """Keep the number of changes so far in a file that is open already, so that counting changes nothing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    def act(count: int, _: str) -> None:
        os.pwrite(descriptor, f"{count:8}".encode(), 0)

    watch_changes(act)
