"""Target `page`: ONNX graphs for a page, with an option, a row and a refusal of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sprint_export.errors import RefusedError
from sprint_export.nouns.report import Measurement, Metric
from sprint_export.nouns.target import Device, Offer, Options, Target, TargetOption

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle

MOST_WORKERS = 64
WORKERS = TargetOption(
    "workers", "How many workers a page may start; default 4.", int, 4, flags=("--workers",), unit="workers of a page"
)


class PageTarget(Target):
    """A page has the visitor's CPU."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why a device shows no pages, or None."""
        return None if device.name == "cpu" else f"a page runs on cpu, not on {device.name}; use onnx-{precision}"

    def complete(self, precision: str, device: Device, options: Options) -> Options:
        """Refuse more workers than a browser starts."""
        if int(options["workers"]) > MOST_WORKERS:
            raise RefusedError(f"page-{precision} --workers {options['workers']}: a browser starts at most {MOST_WORKERS}")
        return options

    def oldest(self, options: Options) -> Mapping[str, str]:
        """What opens the graphs."""
        return {"onnxruntime": "1.21.0"}

    def read_rows(self, bundle: Bundle) -> list[Measurement]:
        """What a visitor waits for."""
        size = sum({artifact.path: artifact.bytes for artifact in bundle.artifacts}.values())
        return [Measurement("download_mb", size / 1e6, "MB", note="all files of the bundle")]


TARGET = PageTarget(
    name="page",
    format="onnx",
    title="ONNX for a page",
    offers={"fp32": Offer("fp32", "fp32"), "int8": Offer("w8a8", "fp32")},
    default_device="cpu",
    extra="runtime",
    panel="Page",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("page",),
    options=(WORKERS,),
    lacks={"fp8": "WebAssembly has no FP8; use page-int8", "dynamic": "a page shows one size; the nearest that can is onnx-int8"},
    metrics=(Metric("download_mb"), Metric("calls")),
)
