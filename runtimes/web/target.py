"""Target `web`: ONNX graphs for a page, which onnxruntime-web runs in WebAssembly on the visitor's CPU or on the GPU by WebGPU.

    web-fp16     for WebGPU: half precision, 16-bit arithmetic asked for (`shader-f16`); WebAssembly computes it in float32
    web-w4a16    the same with text encoder and transformer in 4 bits: MatMulNBits, which both have kernels for
    web-int8     for WebAssembly: the CPU form of `onnx-int8`, whose integer products WebGPU has no kernels for
WebAssembly addresses 4 GB in all, a page's largest array is 2 GB, and both are gates of a report. Inputs and outputs are float32
and int64. WebGPU has no 64-bit integers, so the cast of a prompt's mask, some 300 numbers, stays on the CPU, and so does an
8-bit embedding, whose 300 rows travel and not its table. Files are laid out for a page by `sprint-export pack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Gate
from sprint_export.nouns.target import Device, Offer, Options, Target
from sprint_export.runtimes.onnx_cpu.providers import PROVIDERS
from sprint_export.runtimes.onnx_cpu.target import TARGET as ONNX
from sprint_export.runtimes.onnx_cpu.target import rounds_output
from sprint_export.runtimes.web.rows import METRICS, weigh_downloads
from sprint_export.versions import OLDEST_ONNXRUNTIME

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.report import Measurement


class WebTarget(Target):
    """Any device that shows pages."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """None: any device will do."""
        return None

    def refuse_provider(self, precision: str, provider: str) -> str | None:
        """Why the CPU form of int8 is not for a GPU's provider; else None."""
        if precision != "int8" or PROVIDERS[provider].is_for_cpus:
            return None
        return f"web-int8 is in a form for WebAssembly and CPUs, not for {provider}; use web-w4a16 or web-fp16"

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """The GPU by WebGPU; WebAssembly is the CPU's."""
        return "cpu" if precision == "int8" or "gpu" not in device.units else "gpu"

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The first ONNX Runtime that reads the opset."""
        return {"onnxruntime": OLDEST_ONNXRUNTIME}

    def read_rows(self, bundle: Bundle) -> list[Measurement]:
        """What is downloaded and has to fit."""
        return weigh_downloads(bundle)


TARGET = WebTarget(
    name="web",
    format="onnx",
    title="ONNX for a page: fp16 and w4a16 for WebGPU, int8 for WebAssembly",
    offers={
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a8", "fp32"),
        "w4a16": Offer("w4a16", "fp16", group=32, convolutions="w8a16"),
        "w8a16": Offer("w8a16"),
    },
    default_device="cpu",
    extra="runtime",
    panel="Web",
    files=r"model\.onnx(\.data)?",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("onnx",),
    ships_to=("web", "node"),
    rounds_output=rounds_output,
    rewrites=(*ONNX.rewrites, "four_bit_matmuls"),  # last: products of what were convolutions too
    lacks={
        "fp8": "neither WebAssembly nor WebGPU has FP8; use web-int8, or web-w4a16 on a GPU",
        "fp32": "onnx-fp32 is that; on a page web-fp16 is half as long a download",
        "batch": "a page draws one picture at a time; the nearest that can is onnx-fp16",
        "dynamic": "a page shows one size; the nearest that can is onnx-fp16",
    },
    metrics=METRICS,
    gates=(
        Gate("largest_tensor_mb", "<=", 2147, "a page's arrays hold 2 GB"),
        Gate("network_mb", "<=", 4000, "WebAssembly addresses 4 GB, and a network is loaded at once"),
    ),
)
