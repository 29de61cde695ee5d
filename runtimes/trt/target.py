"""Target `trt`: ONNX plus a TensorRT engine for RTX PCs.

TensorRT for RTX compiles for a named compute capability, so an engine for an RTX 4090 (8.9) is built on any x86-64
machine, without a GPU and without a driver; only running it needs them. The network is strongly typed: the ONNX alone
says what computes in which type, and the same ONNX gives the same engine bytes.

    model.onnx -> model.sm89.engine and, beside it, model.sm89.layers.txt: the builder's raw kernel table, which tells without a
                  GPU what was fused and what computes in FP8 or INT8 (kernels.py)

Covered: fixed shapes, one compute capability an engine. Not covered: free axes, refitting, several GPUs.
The builder `tensorrt` is classic TensorRT: the same code over another library, which builds only on the GPU it is for. It has not
been tested at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.devices import list_devices
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, MachineError, RefusedError
from sprint_export.files import write_text, write_whole
from sprint_export.nouns.target import BuiltTarget, Device, Offer, Options, TargetOption
from sprint_export.runtimes.onnx_cpu.target import PROMPTS_AT_ONCE
from sprint_export.runtimes.trt.compiling import compile_graph
from sprint_export.runtimes.trt.gpus import find_gpus
from sprint_export.runtimes.trt.library import (
    BUILDERS,
    check_library,
    find_version,
    load_library,
    open_log,
)
from sprint_export.runtimes.trt.rows import METRICS, list_work, read_work, summarize_kernels, weigh_engines
from sprint_export.versions import OLDEST_ONNXRUNTIME

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.report import Measurement
    from sprint_export.nouns.work import Work

# What TensorRT for RTX 1.7 compiles for: Turing, Ampere, Ada, Blackwell.
_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
# What the tensor cores need at least, with the reason: bf16 since Ampere, FP8 since Ada.
_NEEDS = {
    "bf16": ((8, 0), "onnx-int8"),
    "int8": ((8, 0), "onnx-int8"),
    "fp8a16": ((8, 9), "trt-w4a16"),
    "w4a16": ((8, 0), "onnx-w4a16"),
    "fp8": ((8, 9), "trt-int8"),
}
BUILDER = TargetOption(
    "builder",
    "tensorrt-rtx (default; needs no GPU) or tensorrt (on the GPU it is for).",
    default="tensorrt-rtx",
    flags=("--builder",),
    choices=tuple(BUILDERS),
    is_for_building=True,
)


class TrtTarget(BuiltTarget):
    """RTX GPUs from Turing on, each with the types its tensor cores have."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why that precision cannot be built for that device, naming the nearest that can; None when it can."""
        capability = device.compute_capability
        if capability not in _CAPABILITIES:
            has = "has no compute capability (no NVIDIA GPU)" if capability is None else f"has {_dotted(capability)}"
            known = ", ".join(d.name for d in list_devices() if d.compute_capability in _CAPABILITIES)
            return (
                f"trt builds for compute capability {', '.join(map(_dotted, _CAPABILITIES))}; {device.name} {has}; "
                f"choose a device from: {known}"
            )
        needed, instead = _NEEDS[precision]
        if capability < needed:
            kind = "FP8" if precision.startswith("fp8") else f"bf16, which trt-{precision} graphs compute in,"
            if instead.startswith("trt-") and self.refuses(instead.removeprefix("trt-"), device) is not None:
                instead = "onnx-int8"
            has = f"{device.name} has {_dotted(capability)}"
            return f"{kind} needs compute capability {_dotted(needed)} or newer; {has}; use {instead}"
        return None

    def oldest(self, options: Options) -> Mapping[str, str]:
        """Of the shadows; what built the engines is added when it has."""
        return {"onnxruntime": OLDEST_ONNXRUNTIME}

    def read_rows(self, bundle: Bundle) -> list[Measurement]:
        """Engines weighed, and priced by their kernel tables."""
        return [*weigh_engines(bundle), *summarize_kernels(bundle)]

    def list_kernels(self, bundle: Bundle, role: str, device: Device) -> tuple[Work, ...] | None:
        """The builder's kernel table, of an engine for the device's compute capability or else of another of the bundle's."""
        return list_work(bundle, role, device)

    def read_built(self, files: Mapping[str, Path]) -> tuple[Work, ...]:
        """The builder's kernel table."""
        return read_work(files["kernels"])

    def find_version(self, builder: str) -> str:
        """The installed version of a builder.

        Raises:
            MachineError: it is not installed.
        """
        return find_version(builder)

    def check_builder(self, device: Device, builder: str) -> None:
        """Refuse what `build` would refuse whatever the graph.

        Raises:
            RefusedError: a device without compute capability. MachineError: no library, or no GPU for the classic builder.
        """
        if device.compute_capability is None:
            raise RefusedError(str(self.refuse_device("bf16", device)))
        if builder == "tensorrt":
            _require_gpu(device)
        check_library(builder)

    def build(self, graph: Path, device: Device, builder: str, tell: Callable[[str], None]) -> Mapping[str, Path]:
        """Compile an ONNX graph (with its external data) for a device.

        Returns:
            "engine": `<stem>.sm<NN>.engine`, "kernels": `<stem>.sm<NN>.layers.txt`.

        Raises:
            InputError: a graph the builder cannot read, or one with free axes. RefusedError: a device without compute capability.
            MachineError: the library is missing; no GPU for the classic builder; the disk is full.
        """
        self.check_builder(device, builder)
        if not graph.is_file():
            raise InputError(f"no ONNX graph at {graph}; export the student first")
        trt = load_library(builder)
        start = time.perf_counter()
        major, minor = device.compute_capability or (0, 0)  # never (0, 0): check_builder refuses a device without
        stem = f"{graph.stem}.sm{major}{minor}"
        paths = {"engine": graph.with_name(f"{stem}.engine"), "kernels": graph.with_name(f"{stem}.layers.txt")}

        def write(part: Path) -> None:
            log = open_log(trt)
            log.clear()
            tell(f"reading {graph.name}")
            compile_graph(trt, log, graph, device, part, tell)
            write_text(paths["kernels"], _find_table(log, graph))  # before the engine: where there is one, there is its table

        advice = "make room or change its permissions, then build again"
        with clear_disk_errors(paths["engine"], advice, MachineError):
            write_whole(paths["engine"], write)
        size = paths["engine"].stat().st_size
        tell(f"built {paths['engine'].name}, {size / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s")
        return paths


TARGET = TrtTarget(
    name="trt",
    format="onnx+engine",
    title="TensorRT engine for RTX PCs",
    offers={
        "bf16": Offer("bf16", "bf16"),
        "int8": Offer("w8a8", "bf16"),
        "fp8": Offer("fp8", "bf16", convolutions="w8a8"),  # twice the rate (docs/decisions/0010-rtx-decoder.md)
        "fp8a16": Offer("fp8a16", "bf16", convolutions="w8a16"),
        "w8a16": Offer("w8a16"),
        "w4a16": Offer("w4a16", "bf16", group=64, convolutions="w8a16"),
        "int4": Offer("w4a16", group=64),
    },
    default_device="rtx-4090",
    extra="trt",
    panel="TensorRT",
    built_files=r"model\.sm\d+\.(engine|layers\.txt)",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("trt", "onnx"),
    ships_to=("cpp", "windows"),
    options=(BUILDER, PROMPTS_AT_ONCE),
    lacks={
        "dynamic": "an engine's kernels are chosen, and its memory planned, for one size of picture; the nearest that can is "
        "onnx-int8"
    },
    metrics=METRICS,
    # A convolution's scales per channel move behind it; projections come before the attentions, which then read pieces of one
    # product; taps before channels last, which renames their axes.
    rewrites=(
        "scale_after_conv",
        "merged_projections",
        "linear_attention",
        "cross_attention",
        "depthwise_taps",
        "channels_last",
    ),
    # Without one of these the transformer's price grows by half (docs/decisions/0009-rtx-kernels.md).
    required_rules=("linear_attention", "cross_attention", "depthwise_taps", "channels_last"),
)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _find_table(log: Any, graph: Path) -> str:
    if len(log.tables) != 1:
        raise InputError(
            f"compiling {graph} printed {len(log.tables)} kernel tables, expected 1: another TensorRT "
            "logger is in use here; build in a process of its own, e.g. with `sprint-export build`"
        )
    return str(log.tables[0])


def _require_gpu(device: Device) -> None:
    found = find_gpus()
    if device.compute_capability not in found:
        has = f"GPUs of compute capability {', '.join(map(_dotted, found))}" if found else "no NVIDIA GPU or no driver"
        raise MachineError(
            "builder 'tensorrt' builds only on the GPU it builds for; "
            f"{device.name} has compute capability {_dotted(device.compute_capability or (0, 0))}, "
            f"this machine has {has}; use --builder tensorrt-rtx, which needs no GPU"
        )
