"""How fast this machine is, measured in two seconds at sizes like the networks': products, convolutions, memory, disk, Python.

Each rate is that of torch in float32, on the processor with the threads that stages compute in and on the device that networks
run on, over whole runs of RUN_SECONDS and more; what else runs on the machine at that time is in it. The disk's is that of a file
beside the bundle which never has a name.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sprint_export.compute import CPU, Compute
from sprint_export.linear_kernels import use_onednn
from sprint_export.thread_count import fixed_threads

RUN_SECONDS = 0.25
ROWS, INNER, OUTER = 1024, 2240, 5600  # the transformer of SANA 0.6B at 1024 px: tokens, width, feed-forward
CHANNELS, SIDE = 256, 128  # the middle of its decoder
MEMORY_VALUES = 1 << 24  # 64 MB, beyond caches
CACHE_VALUES = 1 << 17
DISK_BYTES = 1 << 26


@dataclass(frozen=True)
class Rates:
    """FLOP a second of matrix products and dense convolutions, bytes a second of memory and caches, read and written.

    `linear` is a matrix product as calibration computes large layers (linear_kernels.py), `operator` the seconds of one operator
    of torch that has nothing to compute: what Python costs here.
    """

    matmul: float
    linear: float
    conv: float
    memory: float
    cache: float
    operator: float


@dataclass(frozen=True)
class Machine:
    """Rates of the processor (`host`) and of the device that networks run on in torch; bytes a second to the disk."""

    host: Rates
    device: Rates
    disk: float


# Two cores of a server, for runs that are not worth measuring for.
_CORES = Rates(matmul=1e11, linear=1e11, conv=1e11, memory=5e9, cache=2e10, operator=3e-6)
TYPICAL = Machine(_CORES, _CORES, disk=3e8)


def measure_machine(folder: Path, compute: Compute = CPU) -> Machine:
    """Take some two seconds to measure, one more where networks run on another device than the processor.

    Args:
        folder: lies on the disk that bundles go to, or will.
        compute: the device.
    """
    host = _measure_rates(CPU)
    return Machine(host, host if compute.is_cpu else _measure_rates(compute), DISK_BYTES / _time_disk(folder))


@fixed_threads()
def _measure_rates(compute: Compute) -> Rates:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return compute.place(torch.randn(shape, generator=generator))

    def time_runs(work: Callable[[], object]) -> float:
        return _time(work, compute.read_clock)

    with torch.no_grad(), compute.exact():
        rows = draw(ROWS, INNER)
        layer = torch.nn.Linear(INNER, OUTER, bias=False, device=compute.device)
        matmul = 2 * ROWS * INNER * OUTER / time_runs(lambda: layer(rows))
        if compute.is_cpu:
            use_onednn(layer)
        linear = 2 * ROWS * INNER * OUTER / time_runs(lambda: layer(rows))
        picture, kernel = draw(1, CHANNELS, SIDE, SIDE), draw(CHANNELS, CHANNELS, 3, 3)
        flop = 2 * 9 * CHANNELS**2 * SIDE**2
        conv = flop / time_runs(lambda: torch.nn.functional.conv2d(picture, kernel, padding=1))
        value = compute.place(torch.zeros(MEMORY_VALUES))
        memory = 2 * value.nbytes / time_runs(lambda: value * 2)
        small, one = value[:CACHE_VALUES], value[:1]
        cache = 2 * small.nbytes / time_runs(lambda: small * 2)
        return Rates(matmul, linear, conv, memory, cache, operator=time_runs(lambda: one * 2))


def _time(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of one run, of as many as fill RUN_SECONDS; a first one warms up. The clock is read once a batch of runs."""
    work()
    start, runs, batch = clock(), 0, 1
    while (passed := clock() - start) < RUN_SECONDS:
        for _ in range(batch):
            work()
        runs, batch = runs + batch, 2 * batch if passed < RUN_SECONDS / 4 else batch
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
