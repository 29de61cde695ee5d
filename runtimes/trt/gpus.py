"""This machine's NVIDIA GPUs, asked of the driver itself: no CUDA library is needed."""

from __future__ import annotations

import ctypes


def find_gpus() -> tuple[tuple[int, int], ...]:
    """Compute capabilities of this machine's NVIDIA GPUs, asked of the driver itself: no CUDA library is needed."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return ()
        return tuple((_ask_driver(driver, 75, i), _ask_driver(driver, 76, i)) for i in range(count.value))
    return ()


def _ask_driver(driver: ctypes.CDLL, attribute: int, gpu: int) -> int:
    value = ctypes.c_int()  # attributes 75 and 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, gpu)
    return value.value
