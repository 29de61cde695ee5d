"""Run one attacked call in a fork of this process, under limits, and say how it ended.

The parent imports what the call needs; a fork then costs milliseconds where a fresh interpreter costs seconds. What a library
does to the whole process (a signal, a hang, memory without bound) ends the child alone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sprint_export import thread_count
from sprint_export.errors import SprintExportError

READ_SIZE = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    `kind` is "returned" (with what `act` returned as `text`), "clean" (a SprintExportError, its message), "traceback" (any other
    exception, its class, message and innermost places), "signal" (its name) or "hang". `exit_status` is that of a clean error.
    """

    kind: str
    text: str
    seconds: float
    exit_status: int = 0
    megabytes: float = 0.0  # the most that it held, what it shared with its parent among it


def keep_one_thread() -> None:
    """Have this process and its forks compute in one thread: a fork of one whose OpenMP has more waits for them for ever.

    What a campaign exports then has other last digits than a user's files; it is compared with files of the same campaign.
    """
    thread_count.THREADS = 1


def run_forked(act: Callable[[], str], seconds: float = 30.0, gigabytes: float = 4.0) -> Ended:
    """Run `act` in a fork that is killed after `seconds`, and may take `gigabytes` more address space than this process has."""
    reader, writer = os.pipe()
    gc.freeze()  # else the child's collector goes through all that the parent has, and copies its pages
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _act_and_leave(act, writer, gigabytes)
    os.close(writer)
    said, is_late = _read_until(reader, start + seconds)
    os.close(reader)
    if is_late:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    took, megabytes = time.monotonic() - start, usage.ru_maxrss / 1024
    if is_late:
        return Ended("hang", f"killed after {took:.0f} s", took, megabytes=megabytes)
    if os.WIFSIGNALED(status):
        return Ended("signal", signal.Signals(os.WTERMSIG(status)).name, took, megabytes=megabytes)
    if not said:
        return Ended("traceback", f"left with status {os.WEXITSTATUS(status)} and no word", took, megabytes=megabytes)
    kind, text, exit_status = json.loads(said)
    return Ended(kind, text, took, exit_status, megabytes)


def _act_and_leave(act: Callable[[], str], writer: int, gigabytes: float) -> None:
    """The child: never returns."""
    with contextlib.suppress(BaseException):
        os.setsid()  # a Ctrl-C for the parent is not for it
        _limit_memory(gigabytes)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        try:
            found = ("returned", act(), 0)
        except SprintExportError as error:
            found = ("clean", str(error), error.exit_status)
        except BaseException as error:
            found = ("traceback", describe_error(error), 0)
        os.write(writer, json.dumps(found).encode())
        os.close(writer)
    os._exit(0)


def _limit_memory(gigabytes: float) -> None:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read_until(reader: int, deadline: float) -> tuple[bytes, bool]:
    """What the child wrote until it closed its end, and whether it was too late."""
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], left)
        if ready:
            more = os.read(reader, READ_SIZE)
            if not more:
                return said, False
            said += more
    return said, True


def describe_error(error: BaseException) -> str:
    """Class, message and the three innermost places, so that two samples of one fault look alike."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {str(error)[:200]} [{places}]"


def watch_reads(folder: Path) -> None:
    """Make any later read of a file below `folder` visible to `was_read`, by libraries in native code too."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            os.utime(path, (0, path.stat().st_mtime))


def was_read(folder: Path) -> list[str]:
    """Files below `folder` that were read since `watch_reads`; Linux moves an access time that is older than the content's."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_atime > 0]
