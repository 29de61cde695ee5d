"""What the machine lacks, said clearly: an exception of some library as a MachineError of ours. Standard library only.

    a module that is not there   which extra brings it
    a module that will not load  why, and that it is to be installed again
    memory that ran short        how much there was, and what to do
    the system refused a file    which one and why
Anything else is a mistake in the package and stays what it is.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

from sprint_export.errors import LONGEST, InputError, MachineError, SprintExportError
from sprint_export.libraries import missing_library, name_install

OWN = "sprint_export"
# What libraries say in errors of many types when they get no memory; lower case.
_MEMORY_WORDS = (
    "unable to mmap",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "defaultcpuallocator",
    "bad_alloc",
    "bad allocation",
    "failed to map segment",
    "out of memory",
    "unable to allocate",
    "failed to allocate memory",
    "can't start new thread",
    "insufficient memory",
)


def explain_error(error: BaseException) -> SprintExportError | None:
    """The error as one of ours, or None where it is a mistake in the package."""
    causes = list(_causes(error))
    if any(map(is_memory_short, [*causes, *_contexts(error)])) or (not _is_ours(error) and is_space_used_up()):
        return MachineError(f"memory ran short ({describe_memory()}); {_FREE_SOME}")
    if isinstance(error, SprintExportError):
        return error
    for cause in causes:
        if isinstance(cause, ImportError) and (found := _explain_import(cause)) is not None:
            return found
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= letter <= "\udfff" for letter in error.object):
        return InputError(f"{error.object[:80]!r} is not UTF-8; rename it, or write it in UTF-8")
    return _explain_refusal(error) if isinstance(error, OSError) else None


ULIMIT = "ulimit -v"
NEAR = 0.75  # of the limit: what could not be had was large
_FREE_SOME = (
    "end other programs, raise the limit (ulimit -v, a container's) or take a machine with more, and run the same command "
    "again: what was finished is kept"
)


def _explain_refusal(error: OSError) -> SprintExportError:
    name = str(error.filename or "a file")
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    kind = InputError if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR) else MachineError
    return kind(f"the system refused {shown} ({error.strerror or error})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    while id(error) not in seen:
        yield error
        seen.add(id(error))
        if error.__cause__ is None:
            return
        error = error.__cause__


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """What was being handled when the error came up, innermost last."""
    seen: set[int] = set()
    while error.__context__ is not None and id(error) not in seen:
        seen.add(id(error))
        error = error.__context__
        yield error


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, SprintExportError)


def is_space_used_up() -> bool:
    """Whether this process came near the address space it may have: any error of a library may then come from that."""
    limit, peak = _limits().get(ULIMIT), _read_number("/proc/self/status", "VmPeak:", 1024)
    return limit is not None and peak is not None and peak > NEAR * limit


def is_memory_short(error: BaseException) -> bool:
    """Whether some library got no memory."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return not isinstance(error, SprintExportError) and any(words in text for words in _MEMORY_WORDS)


def describe_memory() -> str:
    """What this process may have and what is free, as far as this system says."""
    found = [f"{limit / 1e6:,.0f} MB allowed to this process by {name}" for name, limit in _limits().items()]
    free = find_free_memory()
    if free is not None:
        found.append(f"{free / 1e6:,.0f} MB free on this machine")
    return ", ".join(found) or "this system does not say how much there is"


def find_free_memory() -> int | None:
    """Bytes that are free on this machine; None where the system does not say."""
    return _read_number("/proc/meminfo", "MemAvailable:", 1024)


def find_used_memory() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    return _read_number("/proc/self/status", "VmRSS:", 1024) or 0


def check_space(least: int, what: str) -> None:
    """Ask for address space before libraries are loaded: some end the whole process, without an exception, where it is short.

    Raises:
        MachineError: this process may have less than `least` bytes.
    """
    limit = _limits().get(ULIMIT)
    if limit is not None and limit < least:
        raise MachineError(f"memory is short ({describe_memory()}): {what} takes {least / 1e6:,.0f} MB or more; {_FREE_SOME}")


def _limits() -> dict[str, int]:
    found = {}
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            found[ULIMIT] = soft
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read_number(path, "", 1)
        if limit is not None and limit < 2**60:
            found["its container"] = limit
            break
    return found


def _read_number(path: str, label: str, unit: int) -> int | None:
    """The number after `label` in a file of the system, times `unit`; None where there is none."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
        return next(int(line.removeprefix(label).split()[0]) * unit for line in lines if line.startswith(label))
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _explain_import(error: ImportError) -> MachineError | None:
    name = (error.name or "").partition(".")[0]
    if name == OWN or (name in sys.stdlib_module_names and isinstance(error, ModuleNotFoundError)):
        return None
    if isinstance(error, ModuleNotFoundError) and name:
        return missing_library(name)
    install = name_install([name]) if name else f"'{OWN.replace('_', '-')}[all]'"
    return MachineError(f"{name or 'a library'} cannot be loaded ({error}); run: pip install --force-reinstall {install}")
