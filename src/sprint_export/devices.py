"""The devices an artifact can be built and priced for: a table of published peak figures, standard library only.

A price is arithmetic on these figures (runtimes/trt/kernels.py), not a measurement: it ranks graphs for a device nobody
here owns. `tflops` are dense peaks (no structured sparsity) with float32 accumulation, the way these graphs are
compiled: on GeForce cards that is half the rate of the advertised float16-accumulate figure. A type the device has no
units for is absent from `tflops`.

Apple's devices are never priced: no figures of their units are published. What counts there is the chip's generation, the unit
that suits the device, and how large one weight file may be (a Neural Engine refuses 2 GB, and phones fail well before).

Covered: GeForce RTX cards, iPhones and Macs by chip, Intel's GPUs and NPUs as kinds, a plain CPU. Not covered: laptop and
workstation RTX parts, whose clocks depend on the maker.
"""

from __future__ import annotations

from sprint_export.errors import unknown_choice
from sprint_export.nouns.target import NEURAL_ENGINE, Device

KERNEL_US = 2.0  # the cost of one kernel in a stream: launch gap and tail; set once for all cards


def _rtx(model: str, compute_capability: tuple[int, int], fp32: float, gigabytes_per_s: float) -> Device:
    """A GeForce RTX card from its fp32 peak in TFLOP/s.

    Tensor cores run 16-bit at 2x, FP8 (since Ada, 8.9) at 4x and INT8 at 8x the fp32 rate. Turing (7.5) has half the
    fp32 cores beside the same tensor cores: 4x and 16x.
    """
    fold = 2 if compute_capability == (7, 5) else 1
    tflops = {"16-bit": 2 * fold * fp32, "int8": 8 * fold * fp32, "fp32": fp32}
    if compute_capability >= (8, 9):
        tflops["fp8"] = 4 * fp32
    return Device(
        name=f"rtx-{model.lower().replace(' ', '-')}",
        title=f"NVIDIA GeForce RTX {model}",
        compute_capability=compute_capability,
        tflops={kind: round(value, 1) for kind, value in tflops.items()},
        gigabytes_per_s=gigabytes_per_s,
        kernel_us=KERNEL_US,
    )


def _apple(name: str, title: str, chip: tuple[str, int]) -> Device:
    """An iPhone (A chips: Neural Engine, files up to 1 GB) or a Mac (M chips: GPU, files up to 2 GB)."""
    is_phone = chip[0] == "A"
    return Device(
        name=name,
        title=title,
        compute_capability=None,
        apple_chip=chip,
        compute_unit=NEURAL_ENGINE if is_phone else "gpu",
        part_megabytes=1000 if is_phone else 2000,
    )


# fp32 peaks and bandwidths as NVIDIA publishes them in its Turing, Ampere GA102, Ada and RTX Blackwell whitepapers. Only the
# RTX 4090's have been checked (they are the project's budget figures); check the others before quoting a price for them.
_DEVICES = (
    # The project's reference: the whitepaper's 165.2 / 330.3 / 660.6 / 82.6, rounded as the project's budget rounds.
    Device(
        name="rtx-4090",
        title="NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        tflops={"16-bit": 165.0, "fp8": 330.0, "int8": 660.0, "fp32": 82.6},
        gigabytes_per_s=1008.0,
        kernel_us=KERNEL_US,
    ),
    _rtx("2080 Ti", (7, 5), 14.2, 616.0),
    _rtx("3090", (8, 6), 35.6, 936.0),
    _rtx("4070", (8, 9), 29.1, 504.0),
    _rtx("4080", (8, 9), 48.7, 716.8),
    _rtx("5080", (12, 0), 56.3, 960.0),
    _rtx("5090", (12, 0), 104.8, 1792.0),
    _apple("iphone-14", "Apple iPhone 14 (A15, 6 GB)", ("A", 15)),
    _apple("iphone-15-pro", "Apple iPhone 15 Pro (A17 Pro, 8 GB)", ("A", 17)),
    _apple("iphone-16", "Apple iPhone 16 (A18, 8 GB)", ("A", 18)),
    _apple("mac-m1", "Apple Mac with M1 to M3", ("M", 1)),
    _apple("mac-m4", "Apple Mac with M4 or later", ("M", 4)),
    # Intel publishes no latency-relevant peaks by these names, which cover many parts: never priced either.
    Device(name="intel-gpu", title="Intel graphics, integrated or Arc", compute_capability=None, compute_unit="gpu"),
    Device(name="intel-npu", title="Intel AI Boost (the NPU of Core Ultra)", compute_capability=None, compute_unit="npu"),
    # A CPU's peak depends on the part and its clocks; latency there is measured, never priced.
    Device(name="cpu", title="any x86-64 or Arm CPU", compute_capability=None),
)


def list_devices() -> tuple[Device, ...]:
    """All known devices, by name."""
    return tuple(sorted(_DEVICES, key=lambda device: device.name))


def find_device(name: str) -> Device:
    """The device of that name.

    Raises:
        InputError: no device has that name; the message lists them.
    """
    for device in _DEVICES:
        if device.name == name:
            return device
    raise unknown_choice("device", name, (device.name for device in _DEVICES))
