"""Target `openvino`: OpenVINO IR for any x86 or Arm CPU, and for Intel's GPUs and NPUs.

The device a bundle was made for is written into the IR.
"""

from __future__ import annotations

from collections.abc import Mapping

from sprint_export.devices import list_devices
from sprint_export.errors import RefusedError
from sprint_export.nouns.report import Metric
from sprint_export.nouns.target import BATCH, DYNAMIC, Device, Offer, Options, Target, TargetOption
from sprint_export.runtimes.onnx_cpu.target import FREE_SIZES, PROMPTS_AT_ONCE

OLDEST = "2024.6.0"  # older ones were not tried
UNITS = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}  # ours -> OpenVINO's
COMPUTE_UNIT = TargetOption(
    "compute_unit", "cpu, gpu or npu; default: what suits the device.", flags=("--compute-unit",), choices=tuple(UNITS)
)
LAYOUT = TargetOption(
    "layout",
    "optimum: inputs, outputs and files as optimum-intel's OVSanaSprintPipeline opens them.",
    flags=("--layout",),
    choices=("optimum",),
)
STOCK = "SanaSprintPipeline"  # diffusers' class whose students that pipeline draws


class OpenVinoTarget(Target):
    """A CPU and Intel's own devices run both precisions; others have targets of their own."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why OpenVINO has no plugin for a device, or None."""
        if device.name == "cpu" or device.maker == "intel":
            return None
        known = ", ".join(d.name for d in list_devices() if d.name == "cpu" or d.maker == "intel")
        other = "coreml" if device.apple_chip is not None else "trt"
        return f"OpenVINO runs on CPUs and Intel's devices and {device.name} is none; choose from: {known}; or use {other}-int8"

    def refuse_pipelines(self, pipelines: tuple[str, ...], options: Options) -> str | None:
        """Why optimum-intel cannot draw such students, where that is asked for, or None."""
        layout = options.get(LAYOUT.name)
        if layout is None or STOCK in pipelines:
            return None
        return (
            f"--layout {layout}: optimum-intel's pipeline is for students of {STOCK}, this one is of {' or '.join(pipelines)}; "
            "leave --layout out"
        )

    def list_needs(self, precision: str) -> tuple[str, ...]:
        """NNCF too, where it packs the weights."""
        return (*self.needs, "nncf") if precision == "int4" else self.needs

    def complete(self, precision: str, device: Device, options: Options) -> Options:
        """Fill in the compute unit: the device's, or the CPU.

        Raises:
            RefusedError: free sizes on an NPU; a batch in another's layout.
        """
        if BATCH in options and LAYOUT.name in options:
            raise RefusedError(
                f"openvino-{precision} --batch {options[BATCH]} --layout {options[LAYOUT.name]}: optimum-intel's pipeline "
                "feeds one prompt; leave one of the two out"
            )
        unit = options.get("compute_unit") or device.compute_unit or "cpu"
        if options[DYNAMIC] and unit == "npu":
            raise RefusedError(
                f"openvino-{precision} --dynamic --compute-unit npu: Intel's NPU compiles networks of fixed sizes; take cpu or "
                "gpu, or leave --dynamic out"
            )
        return {**options, "compute_unit": unit}

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """The one that the IR is made for."""
        return str(options["compute_unit"])

    def refuse_app(self, options: Options) -> str | None:
        """In another's layout the files have other inputs than the manifest says."""
        if LAYOUT.name not in options:
            return super().refuse_app(options)
        return "its files have the inputs and outputs of optimum-intel's pipeline, which draws from them; leave --layout out"

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The oldest OpenVINO that was tried."""
        return {"openvino": OLDEST}


TARGET = OpenVinoTarget(
    name="openvino",
    format="openvino",
    title="OpenVINO IR for x86 and Arm CPUs, Intel GPUs and NPUs",
    offers={
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a8", "fp16"),
        "int4": Offer("w4a16_nncf", "fp16", group=64, convolutions="w8a16"),
        "w8a16": Offer("w8a16"),
    },
    scale_dtype="fp32",  # in the file and in its arithmetic: half precision would cut the scales of small weights off
    default_device="cpu",
    extra="openvino",
    panel="OpenVINO",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes", "openvino"),
    exporter="to_openvino",
    files=r"openvino_model\.(xml|bin)",
    runtimes=("openvino",),
    ships_to=("cpp", "windows"),
    rewrites=("tokens_last", "unsigned_inputs"),
    options=(COMPUTE_UNIT, FREE_SIZES, PROMPTS_AT_ONCE, LAYOUT),
    metrics=(Metric("load_s"), Metric("kernels_*")),
)
