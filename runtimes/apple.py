"""What Apple's two formats share: which devices take which pair, and the options that both declare."""

from __future__ import annotations

from sprint_export.devices import list_devices
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST
from sprint_export.nouns.target import NEURAL_ENGINE, Device, Options, Target, TargetOption
from sprint_export.quantize.schemes.scheme import load_scheme

PANEL = "Apple"
UNITS = (NEURAL_ENGINE, "gpu", "cpu", "all")
INTEGER_CHIPS = {"A": 17, "M": 4}  # the first that multiply 8-bit integers

DEPLOYMENT_TARGET = TargetOption(
    "deployment_target", "The oldest system it must run on, e.g. iOS17; default iOS18.", flags=("--deployment-target",)
)
COMPUTE_UNIT = TargetOption("compute_unit", "neural-engine, gpu, cpu or all", flags=("--compute-unit",), choices=UNITS)


def refuse_apple(target: Target, library: str, precision: str, device: Device) -> str | None:
    """Why one of Apple's formats cannot serve a pair, or None: the device is another maker's, or W8A8 would only cost."""
    if device.apple_chip is None:
        known = ", ".join(d.name for d in list_devices() if d.apple_chip is not None)
        return f"{library} runs on Apple devices and {device.name} is none; choose from: {known}; elsewhere use onnx-int8"
    letter, generation = device.apple_chip
    is_rounding = load_scheme(target.offers[precision].scheme).inputs is not None
    if is_rounding and generation < INTEGER_CHIPS[letter]:
        return (
            f"8-bit arithmetic begins with A17 Pro and M4, {device.name} has {letter}{generation} and would run it slower than "
            f"16-bit; use {target.name}-int8, which stores weights in 8 bits"
        )
    return None


def find_unit(dtype: str, device: Device, options: Options) -> str | None:
    """The compute unit that runs a program: a Neural Engine has no 32-bit arithmetic, so such programs go to the GPU."""
    asked = options.get("compute_unit", "all")
    unit = device.compute_unit if asked == "all" else str(asked)
    return "gpu" if unit == NEURAL_ENGINE and dtype == "fp32" else unit


def choose_layout(options: Options) -> str:
    """A Neural Engine wants channels first."""
    return CHANNELS_FIRST if options["compute_unit"] == NEURAL_ENGINE else CHANNELS_LAST
