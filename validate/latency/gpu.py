"""NVIDIA GPUs as NVML sees them: name, clocks, memory, what slows them. Without the library or a driver there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# NVML's bits of why clocks are lower, beyond idling and what an application asked for.
SLOWDOWNS = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


@dataclass(frozen=True)
class Gpu:
    """One device, by NVML's handle."""

    nvml: Any
    handle: Any

    @property
    def name(self) -> str:
        """E.g. "NVIDIA GeForce RTX 4090"."""
        name = self.nvml.nvmlDeviceGetName(self.handle)
        return name.decode() if isinstance(name, bytes) else str(name)

    def read_memory_mb(self) -> float:
        """MB that are held on it, by all processes: in a container NVML does not know this one's."""
        return float(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used) / 1e6

    def read_clock_mhz(self) -> float:
        """Of its multiprocessors."""
        return float(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM))

    def list_slowdowns(self) -> set[str]:
        """What slows it now; nothing where the driver does not say."""
        with contextlib.suppress(self.nvml.NVMLError):
            bits = int(self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))
            return {name for bit, name in SLOWDOWNS.items() if bits & bit}
        return set()


def find_gpus() -> Sequence[Gpu]:
    """All that are here; none without nvidia-ml-py, or without a driver."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        gpus = [Gpu(pynvml, handle) for handle in handles]
        for gpu in gpus:
            gpu.read_memory_mb(), gpu.read_clock_mhz()
    except pynvml.NVMLError:
        return ()
    return gpus
