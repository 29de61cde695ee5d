"""Target `trt`: ONNX plus a TensorRT engine for RTX PCs.

TensorRT for RTX compiles for a named compute capability, so an engine for an RTX 4090 (8.9) is built on any x86-64
machine, without a GPU and without a driver; only running it needs them. The network is strongly typed: the ONNX alone
says what computes in which type, and the same ONNX gives the same engine bytes.

    build         model.onnx -> model.sm89.engine and, beside it, model.sm89.layers.txt: the builder's raw kernel table,
                  which tells without a GPU what was fused and what computes in FP8 or INT8 (runtimes/trt/kernels.py)
    open_session  an engine on a machine that has the GPU

Covered: fixed shapes, one compute capability an engine. Not covered: free axes, refitting, several GPUs.
`builder="tensorrt"` is classic TensorRT: the same code over another library, which builds only on the GPU it is for.
Written without a GPU: running an engine has been tested against a stand-in, the classic builder not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.devices import list_devices
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import BundleError, InputError, MachineError, unknown_choice
from sprint_export.files import write_whole
from sprint_export.libraries import is_installed
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import Device, Offer, Target
from sprint_export.registry import require
from sprint_export.runtimes.trt.gpus import find_gpus
from sprint_export.runtimes.trt.library import BUILDERS, LOG_LOCK, check_library, join_messages, load_library, open_log
from sprint_export.runtimes.trt.session import EngineSession
from sprint_export.versions import OLDEST_ONNXRUNTIME, refuse_other

if TYPE_CHECKING:
    from types import ModuleType

    from sprint_export.session import Session

# What TensorRT for RTX 1.7 compiles for: Turing, Ampere, Ada, Blackwell.
_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
# What the tensor cores need at least, with the reason: bf16 since Ampere, FP8 since Ada.
_NEEDS = {"bf16": ((8, 0), "onnx-int8"), "int8": ((8, 0), "onnx-int8"), "fp8": ((8, 9), "trt-int8")}


def refuse_pair(precision: str, device: Device) -> str | None:
    """Why that precision cannot be built for that device, naming the nearest that can; None when it can."""
    if precision not in TARGET.precisions:
        return f"trt has no precision {precision!r}; choose from: {', '.join(TARGET.precisions)}"
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
        kind = "FP8" if precision == "fp8" else f"bf16, which trt-{precision} graphs compute in,"
        if instead.startswith("trt-") and refuse_pair(instead.removeprefix("trt-"), device) is not None:
            instead = "onnx-int8"
        return (
            f"{kind} needs compute capability {_dotted(needed)} or newer; {device.name} has {_dotted(capability)}; use {instead}"
        )
    return None


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


TARGET = Target(
    name="trt",
    format="onnx+engine",
    title="TensorRT engine for RTX PCs",
    offers={
        "bf16": Offer("bf16", "bf16"),
        "int8": Offer("w8a8", "bf16"),
        "fp8": Offer("fp8", "bf16", convolutions="w8a8"),  # twice the rate (docs/decisions/0010-rtx-decoder.md)
        "w8a16": Offer("w8a16"),
        "int4": Offer("w4a16", group=128),
    },
    refuses=refuse_pair,
    default_device="rtx-4090",
    extra="trt",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("trt", "onnx"),
    needs_build=True,
    one_size="an engine's kernels are chosen, and its memory planned, for one size of picture",
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
    oldest=lambda options: {"onnxruntime": OLDEST_ONNXRUNTIME},  # of the shadows; `build` adds what built the engines
)


def build(graph: Path, device: Device, builder: str, progress: Callable[[str], None]) -> tuple[Path, Path]:
    """Compile an ONNX graph (with its external data) for a device.

    Returns:
        `<stem>.sm<NN>.engine` and `<stem>.sm<NN>.layers.txt`, beside the graph; each is either whole or absent.

    Raises:
        InputError: unknown builder, a graph the builder cannot read, free axes, a device without compute capability.
        MachineError: the library is missing; no GPU for the classic builder; the disk is full.
    """
    check_builder(device, builder)
    if not graph.is_file():
        raise InputError(f"no ONNX graph at {graph}; export the student first")
    trt = load_library(builder)
    start = time.perf_counter()
    with LOG_LOCK:
        log = open_log(trt)
        log.clear()
        progress(f"reading {graph.name}")
        engine = _compile(trt, log, graph, device, progress)
        table = _find_table(log, graph)
    major, minor = device.compute_capability or (0, 0)  # never (0, 0): check_builder refuses a device without
    stem = f"{graph.stem}.sm{major}{minor}"
    paths = graph.with_name(f"{stem}.engine"), graph.with_name(f"{stem}.layers.txt")
    _write_whole(paths[1], table.encode())
    _write_whole(paths[0], memoryview(engine))  # last: where there is an engine, there is its table
    progress(f"built {paths[0].name}, {engine.nbytes / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s")
    return paths


def find_version(builder: str) -> str:
    """The installed version of a builder.

    Raises:
        MachineError: it is not installed.
    """
    return str(load_library(builder).__version__)


def refuse_version(runtimes: Mapping[str, str]) -> str | None:
    """Why the builders that are installed cannot open a bundle whose engines were built by these, or None."""
    reasons = [refuse_other(name, find_version(name), runtimes[name]) for name in BUILDERS if name in runtimes]
    return next((reason for reason in reasons if reason is not None), None)


def check_builder(device: Device, builder: str) -> None:
    """Refuse what `build` would refuse whatever the graph.

    Raises:
        InputError: unknown builder, or a device without compute capability. MachineError: no GPU for the classic builder.
    """
    if builder not in BUILDERS:
        raise unknown_choice("builder", builder, BUILDERS)
    if device.compute_capability is None:
        raise InputError(str(refuse_pair("bf16", device)))
    if builder == "tensorrt":
        _require_gpu(device)
    check_library(builder)


def _compile(trt: ModuleType, log: Any, graph: Path, device: Device, progress: Callable[[str], None]) -> Any:
    """The serialized engine (an IHostMemory) of a graph."""
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    # From the file, not from bytes: external data is found beside it, and 2 GB is no limit.
    parsed = parser.parse_from_file(str(graph))
    if not parsed or not network.num_outputs:
        raise InputError(f"TensorRT cannot read {graph}: {_explain_parser(parser)}")
    _check_shapes(network, graph)
    progress(f"compiling {graph.name} for {device.title}: {network.num_layers} layers")
    engine = builder.build_serialized_network(network, _make_config(trt, builder, device))
    if engine is None:
        raise InputError(f"TensorRT cannot compile {graph} for {device.name}: {join_messages(log.errors)}")
    return engine


def _make_config(trt: ModuleType, builder: Any, device: Device) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # shapes and types in the kernel table
    if hasattr(trt, "ComputeCapability"):  # TensorRT for RTX; the classic builder builds for the GPU it runs on
        major, minor = device.compute_capability or (0, 0)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), 0)
    return config


def _check_shapes(network: Any, graph: Path) -> None:
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if any(size < 0 for size in tensor.shape):
            raise InputError(
                f"{graph}: input {tensor.name!r} has free axes, shape {list(tensor.shape)}; "
                "a trt engine has fixed shapes: export with fixed shapes"
            )


def _explain_parser(parser: Any) -> str:
    if not parser.num_errors:
        return "it holds no graph with outputs; is it an ONNX file?"
    messages = []
    for error in (parser.get_error(i) for i in range(parser.num_errors)):
        at = f"node {error.node_name() or error.node()!r} ({error.node_operator()}): " if error.node() >= 0 else ""
        messages.append(at + error.desc())
    return join_messages(messages)


def _find_table(log: Any, graph: Path) -> str:
    if len(log.tables) != 1:
        raise InputError(
            f"compiling {graph} printed {len(log.tables)} kernel tables, expected 1: another TensorRT "
            "logger is in use here; build in a process of its own, e.g. with `sprint-export build`"
        )
    return str(log.tables[0])


def _write_whole(path: Path, data: bytes | memoryview) -> None:
    """A reader sees the whole file or none.

    Raises:
        MachineError: the disk is full, or the folder cannot be written to.
    """
    advice = "make room or change its permissions, then build again"
    with clear_disk_errors(path, advice, MachineError):
        write_whole(path, lambda part: part.write_bytes(data))


def _require_gpu(device: Device) -> None:
    found = find_gpus()
    if device.compute_capability not in found:
        has = f"GPUs of compute capability {', '.join(map(_dotted, found))}" if found else "no NVIDIA GPU or no driver"
        raise MachineError(
            "builder 'tensorrt' builds only on the GPU it builds for; "
            f"{device.name} has compute capability {_dotted(device.compute_capability or (0, 0))}, "
            f"this machine has {has}; use --builder tensorrt-rtx, which needs no GPU"
        )


def can_run() -> str | None:
    """Why engines cannot run on this machine, or None when they can. Cheap: asks the driver, imports nothing."""
    if not find_gpus():
        return "no NVIDIA GPU or no driver (libcuda lists no device)"
    if not any(is_installed(library) for library in BUILDERS.values()):
        return "tensorrt_rtx is not installed; run: pip install 'sprint-export[trt]'"
    if not is_installed("cuda") or not is_installed("cuda.bindings"):
        return "cuda-python is not installed; run: pip install 'sprint-export[trt]'"
    return None


def open_session(engine: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
    """Load an engine onto the first GPU.

    Raises:
        BundleError: not an engine, or its tensors are not the given ones.
        MachineError: no GPU, a library is missing, or the engine is for another GPU or another version.
    """
    magic = _read_start(engine) if engine.is_file() else None
    if magic is None or magic[1:] != b"trt":
        found = "no file" if magic is None else repr(magic)
        raise BundleError(f"{engine}: expected a TensorRT engine, found {found}; build it again")
    if not find_gpus():
        raise MachineError(f"{engine.name} cannot run here: {can_run()}; run it on the RTX PC it was built for")
    # TensorRT for RTX begins its engines with "vtrt"; any other letter is classic TensorRT's.
    trt = load_library("tensorrt-rtx" if magic == b"vtrt" else "tensorrt")
    return EngineSession(trt, require("cuda.bindings.runtime", "trt"), engine, inputs, outputs)


def _read_start(engine: Path) -> bytes:
    with engine.open("rb") as file:
        return file.read(4)
