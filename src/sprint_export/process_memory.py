"""What memory there is: what this process may have, what it holds, and what the machine has free. Standard library only.

limit by       of               beyond it
ulimit -v      address space    a library gets an error of its own kind, or ends the process
a container    memory           the system ends the process
"""

from __future__ import annotations

import sys
from pathlib import Path

from sprint_export.errors import MachineError

ULIMIT, CONTAINER = "ulimit -v", "its container"
NEAR = 0.75  # of the limit: what could not be had was large
ADVICE = (
    "end other programs, raise the limit (ulimit -v, a container's) or take a machine with more, and run the same command "
    "again: what was finished is kept"
)


def is_space_used_up() -> bool:
    """Whether this process came near the address space it may have: any error of a library may then come from that."""
    limit, peak = _limits().get(ULIMIT), _read_number("/proc/self/status", "VmPeak:", 1024)
    return limit is not None and peak is not None and peak > NEAR * limit


def describe_free_memory() -> str:
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


def check_address_space(least: int, what: str) -> None:
    """Ask for address space before libraries are loaded: some end the whole process, without an exception, where it is short.

    Raises:
        MachineError: this process may have less than `least` bytes.
    """
    limit = _limits().get(ULIMIT)
    if limit is not None and limit < least:
        raise MachineError(f"memory is short ({describe_free_memory()}): {what} takes {least / 1e6:,.0f} MB or more; {ADVICE}")


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
            found[CONTAINER] = limit
            break
    return found


def _read_number(path: str, label: str, unit: int) -> int | None:
    """The number after `label` in a file of the system, times `unit`; None where there is none."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
        return next(int(line.removeprefix(label).split()[0]) * unit for line in lines if line.startswith(label))
    except (OSError, ValueError, StopIteration, IndexError):
        return None
