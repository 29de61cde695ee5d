"""Target `coreml`: ML programs (`.mlpackage`) for iPhone, iPad and Mac, iOS 17 to 26.

    made       on any system, by export/to_coreml/writer.py
    run        on a Mac, by Core ML itself (runtime.py)
    checked    everywhere else, op by op in PyTorch (checker.py)
A package is fixed in shape. For a Neural Engine the transformer is laid out channels first; what unit a package is made for is
written into it, and is where it runs unless the machine lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sprint_export.errors import RefusedError
from sprint_export.nouns.report import Gate, Measurement, Metric
from sprint_export.nouns.target import Device, Offer, Options, Target, TargetOption
from sprint_export.runtimes import apple
from sprint_export.runtimes.coreml.neural_engine import RULES, check_packages

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.student import Component
    from sprint_export.session import Array

SYSTEMS = ("iOS17", "iOS18", "iOS26", "macOS14", "macOS15", "macOS26")
_TOGETHER = (("17", "14"), ("18", "15"), ("26", "26"))  # iOS and macOS that read one version of the format
_SINCE_18 = ("w6", "w4")  # tables for groups of channels
PART_MEGABYTES = TargetOption(
    "part_megabytes",
    "Largest weight file in MB; a larger network becomes several files.",
    int,
    flags=("--part-mb",),
    unit="10^6 bytes of a file of weights",
)
METRICS = (
    *(Metric(name) for name in ("load_s", "infinities", "nans", "largest_magnitude", "largest_weight_file_mb")),
    *(Metric(rule.metric) for rule in RULES),
    Metric("departures", "pictures of up to 128 px"),
    Metric("ops_on_*", "a Mac that runs it"),
)

GATES = (
    Gate("departures", "<=", 0.0, "an operation that does not give what PyTorch gives is a mistake, however good the picture"),
    Gate("infinities", "<=", 0.0, "half precision overflowed somewhere, and a device need not forgive it as this machine did"),
    Gate("nans", "<=", 0.0, "and this would be seen in the picture"),
)


class CoreMLTarget(Target):
    """Apple devices run all of its precisions; W8A8 pays only where integers are multiplied as such."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why a device cannot run it, or None."""
        return apple.refuse_apple(self, "Core ML", precision, device)

    def complete(self, precision: str, device: Device, options: Options) -> Options:
        """Fill in the deployment target (iOS 18), the device's compute unit and largest weight file.

        Raises:
            InputError: no such compute unit. RefusedError: the system is too old, or unknown; the message names what works.
        """
        system = options.get("deployment_target", "iOS18")
        if system not in SYSTEMS:
            raise RefusedError(
                f"--deployment-target {system}: coreml packages are made for {', '.join(SYSTEMS)}; the oldest of them is the "
                "nearest to an older system, where 8-bit weights and activations do not exist"
            )
        if precision in _SINCE_18 and system in ("iOS17", "macOS14"):
            raise RefusedError(
                f"coreml-{precision} --deployment-target {system}: palettes for groups of channels need iOS18 or macOS15; "
                f"for {system} the nearest is coreml-int8"
            )
        fitting = {"compute_unit": device.compute_unit, "part_megabytes": device.part_megabytes}
        of_device = {name: value for name, value in fitting.items() if value is not None}
        return {"deployment_target": system, **of_device, **options}

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The iOS and the macOS that read the deployment target's version of the format."""
        system = options["deployment_target"]
        return next({"iOS": ios, "macOS": macos} for ios, macos in _TOGETHER if system in (f"iOS{ios}", f"macOS{macos}"))

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """The one that it is made for; the system's choice is taken to be what suits the device."""
        return apple.find_unit(self.graph_dtype[precision], device, options)

    def choose_layout(self, options: Options) -> str:
        """Channels first for a Neural Engine."""
        return apple.choose_layout(options)

    def read_rows(self, bundle: Bundle) -> list[Measurement]:
        """What keeps a Neural Engine from the packages."""
        return check_packages(bundle)

    def compare_rows(self, bundle: Bundle, rounded: Iterable[tuple[Component, Mapping[str, Array]]]) -> list[Measurement]:
        """Where a package leaves PyTorch, operation by operation."""
        from sprint_export.runtimes.coreml.departures import find_departures

        return find_departures(bundle, self.graph_dtype[bundle.precision], rounded)


TARGET = CoreMLTarget(
    name="coreml",
    format="mlpackage",
    title="Core ML package for iPhone, iPad and Mac",
    offers={
        "fp32": Offer("fp32", "fp32"),
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a16", "fp16"),
        "w8a8": Offer("w8a8", "fp16"),
        "w6": Offer("p6a16", "fp16", group=16),
        "w4": Offer("p4a16", "fp16", group=16),
        "int4": Offer("w4a16", group=32),
    },
    default_device="iphone-15-pro",
    extra="coreml",
    panel=apple.PANEL,
    needs=("coremltools",),
    exporter="to_coreml",
    files=r"model(_\d+)?\.mlpackage/.+",
    tensor_header=128,  # 64 bytes, and padding to 64
    runtimes=("coreml", "coreml-checker"),
    ships_to=("apple",),
    options=(apple.DEPLOYMENT_TARGET, PART_MEGABYTES, apple.COMPUTE_UNIT),
    lacks={
        "batch": "an app draws one picture at a time, and Neural Engine programs are checked for one; the nearest that can is "
        "onnx-int8",
        "dynamic": "a Neural Engine program is compiled for one size, and packages are cut and checked at that size; the nearest "
        "that can is onnx-int8",
        "fp8": "Core ML has no FP8 type in any version; the nearest are coreml-w8a8 (8-bit integers for weights and activations) "
        "and, on iOS 27 and macOS 27, coreai-fp8",
        "bf16": "Core ML has no bfloat16 type; use coreml-fp16, whose networks are rescaled so that half precision holds them",
    },
    metrics=METRICS,
    gates=GATES,
)
