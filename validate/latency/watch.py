"""What the machine did while pictures were drawn: clocks, throttling, who else computed, memory, threads.

    waiting     seconds that this process's threads were ready and had no processor (Linux: /proc/self/task/*/schedstat)
    clocks      of the processors in MHz (/proc/cpuinfo, else cpufreq) and of a GPU (NVML)
    throttled   the system counted it (thermal_throttle, NVML's reasons), or clocks fell by a tenth during the run
What a system does not say is None. Everything is read between pictures, never while one is drawn.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sprint_export.validate.latency.gpu import Gpu, find_gpus

SAMPLE_SECONDS = 0.5
LEAST_USED_MB = 32.0  # by which the memory of a GPU that is used grows
FELL = 0.9  # of the clocks at the start: below that they are said to have fallen
TASKS = Path("/proc/self/task")
CPU = Path("/sys/devices/system/cpu")
STAT = Path("/proc/stat")
TICKS = 100  # a second, in STAT on every Linux


def read_waiting() -> float | None:
    """Seconds that threads of this process have waited for a processor so far; None where the system does not say."""
    total, is_known = 0, False
    with contextlib.suppress(OSError):
        for name in os.listdir(TASKS):  # noqa: PTH208 it is read before each picture, and must be quick
            with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that has ended meanwhile
                total += int(Path(TASKS, name, "schedstat").read_bytes().split()[1])
                is_known = True
    return total / 1e9 if is_known else None


def count_threads() -> int | None:
    """Threads of this process; None where the system does not say."""
    with contextlib.suppress(OSError):
        return len(os.listdir(TASKS))  # noqa: PTH208 as above
    return None


def count_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_busy() -> tuple[float, float] | None:
    """Seconds that all processors have had so far, and that they were busy in; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = [int(field) for field in STAT.read_text("utf-8").splitlines()[0].split()[1:9]]
        total = sum(fields) / TICKS
        return total, total - (fields[3] + fields[4]) / TICKS  # without idle and waiting for a disk
    return None


def read_clock_mhz() -> float | None:
    """The mean clock of the processors; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        kilohertz = [int(path.read_text()) for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
        if kilohertz:
            return statistics.mean(kilohertz) / 1e3
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        if found:
            return statistics.mean(found)
    return None


def count_throttles() -> int | None:
    """How often processors were slowed for their heat since the system started; None where it does not count."""
    with contextlib.suppress(OSError, ValueError):
        counts = [int(path.read_text()) for path in CPU.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
        return sum(counts) if counts else None
    return None


def read_peak_memory() -> float | None:
    """The most memory in MB that this process has held; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):  # a new process's own, which getrusage's is not on Linux
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    with contextlib.suppress(ImportError, AttributeError):  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    return None


@dataclass
class Watch:
    """Samples of the machine over a run; `tick` is called between pictures.

    Args:
        clock: seconds.
        gpus: those that NVML finds, or none.
    """

    clock: Callable[[], float] = time.perf_counter
    gpus: Sequence[Gpu] = field(default_factory=find_gpus)
    clocks_mhz: list[float] = field(default_factory=list)
    gpu_clocks_mhz: list[float] = field(default_factory=list)
    threads: int | None = None
    slowed: set[str] = field(default_factory=set)  # a GPU's reasons
    _busy: tuple[float, float] | None = field(default_factory=read_busy)
    _own: float = field(default_factory=lambda: time.process_time())
    _throttles: int | None = field(default_factory=count_throttles)
    _before: Sequence[float] = ()  # MB held on each GPU before the bundle was opened
    _most: dict[int, float] = field(default_factory=dict)
    _last: float = -1e9
    _gpu: Gpu | None = None

    def __post_init__(self) -> None:
        self._before = [gpu.read_memory_mb() for gpu in self.gpus]

    def tick(self) -> None:
        """Take a sample, unless the last one is less than SAMPLE_SECONDS old."""
        now = self.clock()
        if now - self._last < SAMPLE_SECONDS:
            return
        self._last = now
        if (mhz := read_clock_mhz()) is not None:
            self.clocks_mhz.append(mhz)
        self.threads = count_threads()
        for i, gpu in enumerate(self.gpus):
            self._most[i] = max(self._most.get(i, 0.0), gpu.read_memory_mb() - self._before[i])
        gpu_now = self.gpu
        if gpu_now is not None:
            self.gpu_clocks_mhz.append(gpu_now.read_clock_mhz())
            self.slowed |= gpu_now.list_slowdowns()

    @property
    def gpu(self) -> Gpu | None:
        """The GPU whose memory grew most since the watch began, by more than others' noise; None: none is used."""
        grown = max(self._most, key=self._most.__getitem__, default=None)
        return self.gpus[grown] if grown is not None and self._most[grown] >= LEAST_USED_MB else None

    @property
    def device_memory_mb(self) -> float | None:
        """How much it grew."""
        return None if self.gpu is None else max(self._most.values())

    def pick_clocks(self) -> list[float]:
        """MHz of what computes: at the start, in the middle, at the end, and the least; nothing where the system does not say."""
        clocks = self.gpu_clocks_mhz if self.gpu is not None else self.clocks_mhz
        return [round(value, 1) for value in (clocks[0], clocks[len(clocks) // 2], clocks[-1], min(clocks))] if clocks else []

    def find_others_share(self) -> float | None:
        """Of all processors' time since the watch began, what other programs used; None where the system does not say."""
        now = read_busy()
        if self._busy is None or now is None or now[0] <= self._busy[0]:
            return None
        total, busy = now[0] - self._busy[0], now[1] - self._busy[1]
        return min(1.0, max(0.0, (busy - (time.process_time() - self._own)) / total))

    def find_throttling(self) -> tuple[bool | None, str]:
        """Whether the machine was slowed during the run, None where nothing says so, and what says it."""
        count = count_throttles()
        if self.slowed:
            return True, f"NVML: {', '.join(sorted(self.slowed))}"
        if count is not None and self._throttles is not None and count > self._throttles:
            return True, f"the system counted {count - self._throttles} throttles"
        clocks = self.gpu_clocks_mhz if self.gpu is not None else self.clocks_mhz
        fall = find_fall(clocks)
        if fall is not None and fall < FELL:
            return True, f"clocks fell to {100 * fall:.0f} % of those at the start"
        if self.gpu is not None or count is not None or len(set(clocks)) > 1:
            return False, ""
        return None, "this system shows neither counts nor clocks that move"


def find_fall(clocks: Sequence[float]) -> float | None:
    """The mean of the last quarter over that of the first; None of fewer than eight."""
    quarter = len(clocks) // 4
    if quarter < 2:
        return None
    return statistics.mean(clocks[-quarter:]) / statistics.mean(clocks[:quarter])
