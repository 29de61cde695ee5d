"""How fast this machine is, measured in two seconds at sizes like the networks': products, convolutions, memory, disk, Python.

Each rate is that of torch in float32 with the threads that stages compute in, over whole runs of at least RUN_SECONDS; what else
runs on the machine at that time is in it. The disk's is that of a file beside the bundle which never has a name.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sprint_export.thread_count import fixed_threads

RUN_SECONDS = 0.3
ROWS, INNER, OUTER = 1024, 2240, 5600  # the transformer of SANA 0.6B at 1024 px: tokens, width, feed-forward
CHANNELS, SIDE = 256, 128  # the middle of its decoder
MEMORY_VALUES = 1 << 24  # 64 MB, beyond caches
CACHE_VALUES = 1 << 17
DISK_BYTES = 1 << 26


@dataclass(frozen=True)
class Machine:
    """FLOP a second of matrix products and dense convolutions, bytes a second of memory and caches (read and written) and disk.

    `operator` is the seconds of one operator of torch that has nothing to compute: what Python costs here.
    """

    matmul: float
    conv: float
    memory: float
    cache: float
    disk: float
    operator: float


# Two cores of a server, for runs that are not worth measuring for.
TYPICAL = Machine(matmul=1e11, conv=1e11, memory=5e9, cache=2e10, disk=3e8, operator=3e-6)


@fixed_threads()
def measure_machine(folder: Path) -> Machine:
    """Take some two seconds to measure; `folder` lies on the disk that bundles go to, or will."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        rows, weight = draw(ROWS, INNER), draw(OUTER, INNER)
        matmul = 2 * ROWS * INNER * OUTER / _time(lambda: torch.nn.functional.linear(rows, weight))
        picture, kernel = draw(1, CHANNELS, SIDE, SIDE), draw(CHANNELS, CHANNELS, 3, 3)
        flop = 2 * 9 * CHANNELS**2 * SIDE**2
        conv = flop / _time(lambda: torch.nn.functional.conv2d(picture, kernel, padding=1))
        value = torch.zeros(MEMORY_VALUES)
        memory = 2 * value.nbytes / _time(lambda: value * 2)
        small, one = value[:CACHE_VALUES], value[:1]
        cache = 2 * small.nbytes / _time(lambda: small * 2)
        operator = _time(lambda: one * 2)
    return Machine(matmul, conv, memory, cache, DISK_BYTES / _time_disk(folder), operator)


def _time(work: Callable[[], object]) -> float:
    """Seconds of one run, of as many as fill RUN_SECONDS; a first one warms up."""
    work()
    start, runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < RUN_SECONDS:
        work()
        runs += 1
    return passed / runs


def _time_disk(folder: Path) -> float:
    """Seconds to write DISK_BYTES down to the disk, beside what is there or, where nobody may, where temporary files go."""
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    data = os.urandom(1 << 20) * (DISK_BYTES >> 20)
    with tempfile.TemporaryFile(dir=there if os.access(there, os.W_OK) else None) as file:
        start = time.perf_counter()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return time.perf_counter() - start
