"""The devices an artifact can be built, planned and priced for: devices.toml, figures with their sources; standard library only.

A price is arithmetic on these figures (runtimes/trt/kernels.py, planning/), not a measurement: it ranks graphs for a device
nobody here owns. A type the device has no units for is absent from `tflops`, a number that nobody publishes is absent too, and
`lacks` says so. Of Apple's devices the chip's generation counts besides, the unit that suits the device, and how large one weight
file may be (a Neural Engine refuses 2 GB, and phones fail well before).

Covered: GeForce RTX cards and notebook parts at their highest clocks, two data-centre GPUs, iPhones, iPads and Macs by chip, an
Intel Core Ultra, Intel's GPUs and NPUs as kinds, a plain CPU. Not covered: workstation RTX parts.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from sprint_export.errors import unknown_choice
from sprint_export.nouns.target import Device, Figure

TABLE = Path(__file__).with_name("devices.toml")
KERNEL_US = 2.0  # the cost of one kernel in a stream: launch gap and tail; set once for all cards
BANDWIDTH, MEMORY, APP_MEMORY, RUNTIME = "memory bandwidth", "memory", "memory of an app", "memory of a runtime"


@cache
def list_devices() -> tuple[Device, ...]:
    """All known devices, by name."""
    table = tomllib.loads(TABLE.read_text("utf-8"))
    return tuple(_read_device(name, row, table["sources"]) for name, row in sorted(table["devices"].items()))


def find_device(name: str) -> Device:
    """The device of that name.

    Raises:
        InputError: no device has that name; the message lists them.
    """
    for device in list_devices():
        if device.name == name:
            return device
    raise unknown_choice("device", name, (device.name for device in list_devices()))


def _read_device(name: str, row: dict[str, Any], sources: dict[str, tuple[str, str]]) -> Device:
    """A row of the table; a number stands there as [value, key of its source]."""
    peaks = row.get("tflops", {})
    given = {f"{unit} {kind}": pair for unit, kinds in peaks.items() for kind, pair in kinds.items()}
    given |= {what: row[key] for what, key in _SIZES.items() if key in row}
    figures = {what: Figure(float(value), *sources[source]) for what, (value, source) in given.items()}
    units = {unit: {kind: float(value) for kind, (value, _) in kinds.items()} for unit, kinds in peaks.items()}
    sizes = {what: figures[what].value for what in _SIZES if what in figures}
    capability, chip = row.get("compute_capability"), row.get("apple_chip")
    is_priced = capability is not None
    return Device(
        name=name,
        title=row["title"],
        compute_capability=None if capability is None else (capability[0], capability[1]),
        tflops=units["gpu"] if is_priced else {},
        gigabytes_per_s=sizes.get(BANDWIDTH, 0.0),
        kernel_us=KERNEL_US if is_priced else 0.0,
        apple_chip=(chip[0], chip[1]) if chip else None,
        compute_unit=row.get("compute_unit"),
        part_megabytes=row.get("part_megabytes"),
        maker=row.get("maker", ""),
        units=units,
        memory_gb=sizes.get(MEMORY),
        app_gb=sizes.get(APP_MEMORY),
        runtime_gb=sizes.get(RUNTIME),
        figures=figures,
        lacks=tuple(row.get("lacks", ())),
    )


_SIZES = {BANDWIDTH: "gigabytes_per_s", MEMORY: "memory_gb", APP_MEMORY: "app_gb", RUNTIME: "runtime_gb"}
