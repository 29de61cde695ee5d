"""Target `coreai`: Core AI assets (`.aimodel`) for iOS 27 and macOS 27."""

from __future__ import annotations

from collections.abc import Mapping

from sprint_export.errors import RefusedError
from sprint_export.nouns.target import Device, Offer, Options, Target
from sprint_export.runtimes import apple

SYSTEMS = ("iOS27", "macOS27")
_OLDER = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "w8a8": "w8a8", "fp8": "int8"}  # the nearest coreml precision


class CoreAITarget(Target):
    """Apple devices run all of its precisions; W8A8 pays only where integers are multiplied as such."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why a device cannot run it, or None."""
        return apple.refuse_apple(self, "Core AI", precision, device)

    def complete(self, precision: str, device: Device, options: Options) -> Options:
        """Fill in the deployment target (iOS 27) and the compute unit ("all": the system chooses).

        Raises:
            RefusedError: the system is too old, or unknown.
        """
        system = options.get("deployment_target", "iOS27")
        if system not in SYSTEMS:
            raise RefusedError(
                f"--deployment-target {system}: Core AI begins with {' and '.join(SYSTEMS)}; for older systems the nearest is "
                f"coreml-{_OLDER[precision]}"
            )
        return {"deployment_target": system, "compute_unit": options.get("compute_unit", "all")}

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The systems that Core AI began with."""
        return {"iOS": "27", "macOS": "27"}

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """The one that it is made for; the system's choice is taken to be what suits the device."""
        return apple.find_unit(self.graph_dtype[precision], device, options)

    def choose_layout(self, options: Options) -> str:
        """Channels first for a Neural Engine."""
        return apple.choose_layout(options)


TARGET = CoreAITarget(
    name="coreai",
    format="aimodel",
    title="Core AI asset for iOS 27 and macOS 27",
    offers={
        "fp32": Offer("fp32", "fp32"),
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a16", "fp16"),
        "w8a8": Offer("w8a8", "fp16"),
        "fp8": Offer("fp8a16", "fp16"),
    },
    default_device="mac-m4",
    extra="coreai",
    panel=apple.PANEL,
    needs=("coreai_torch", "coreai"),
    exporter="to_coreai",
    files=r"model\.aimodel/.+",
    runtimes=("coreai",),
    ships_to=("apple",),
    options=(apple.DEPLOYMENT_TARGET, apple.COMPUTE_UNIT),
    lacks={
        "batch": "Core AI assets are captured for one picture; the nearest that can is onnx-int8",
        "dynamic": "Core AI assets are captured at one size of picture; the nearest that can is onnx-int8",
        "part_megabytes": "a coreai component is one file; use a coreml target for several",
    },
)
