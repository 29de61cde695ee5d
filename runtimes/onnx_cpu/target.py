"""Target `onnx`: ONNX graphs of standard operators, run here by ONNX Runtime on the CPU.

Its INT8 graphs are shaped for the kernels that provider has (docs/decisions/0008-onnx-int8.md): unsigned activations times signed
weights; MatMuls that give floats; convolutions beyond 1x1 that give 8 bits. It is a form for CPUs: ONNX Runtime's CUDA provider
hands such nodes to the CPU and is slower than with fp16, TensorRT's parser refuses them.

It is also what checks every graph of other targets on a machine that cannot run them: a 16-bit graph comes with a shadow
(same weights, same Q/DQ, float32 arithmetic), and that is what this runtime then opens, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, MachineError
from sprint_export.libraries import is_installed, missing_library
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import Device, LayerShape, Offer, Target
from sprint_export.registry import require
from sprint_export.runtimes.interfaces import check_interface, check_results, name_first_line
from sprint_export.versions import OLDEST_ONNXRUNTIME, refuse_older

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

_DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's names where they are not numpy's
_DTYPES |= {name: name for name in ("float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool")}


LIBRARY = "onnxruntime"


def refuse_pair(precision: str, device: Device) -> str | None:
    """ONNX Runtime's CPU provider runs all of this target's precisions on any device."""
    if precision not in TARGET.precisions:
        return f"onnx has no precision {precision!r}; choose from: {', '.join(TARGET.precisions)}"
    return None


def rounds_output(scheme: str, shape: LayerShape) -> bool:
    """A convolution beyond 1x1: QLinearConv is its only integer kernel; a MatMul may give floats (export/to_onnx/rules/)."""
    return scheme == "w8a8" and any(size > 1 for size in shape.weight[2:])


TARGET = Target(
    name="onnx",
    format="onnx",
    title="ONNX for ONNX Runtime; int8 and fp8 are in the form that its CPU kernels are fast in",
    offers={
        "fp32": Offer("fp32", "fp32"),
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a8", "fp32"),
        "fp8": Offer("fp8", "fp32"),
        "w8a16": Offer("w8a16"),
        "int4": Offer("w4a16", group=32),
    },
    refuses=refuse_pair,
    default_device="cpu",
    extra="runtime",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("onnx",),
    rounds_output=rounds_output,
    rewrites=(
        "gather_rows",
        "masked_keys",
        "cross_attention",
        "linear_attention_products",
        "separate_gate",
        "unsigned_inputs",
        "pointwise_matmuls",
        "fewer_transposes",
        "integer_matmuls",
        "norm_divisions",
        "float8_casts",
    ),
    one_size=None,
    oldest=lambda options: {LIBRARY: OLDEST_ONNXRUNTIME},
)


def build(graph: Path, device: Device, builder: str, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Nothing to build: the graph is what runs."""
    return ()


def can_run() -> str | None:
    """Why ONNX Runtime cannot run here, or None: every machine has a CPU."""
    return None if is_installed("onnxruntime") else str(missing_library("onnxruntime"))


def refuse_version(runtimes: Mapping[str, str]) -> str | None:
    """Why the ONNX Runtime that is installed cannot open a bundle that names these, or None."""
    return refuse_older(LIBRARY, require(LIBRARY, TARGET.extra).__version__, runtimes.get(LIBRARY, ""))


def open_session(graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
    """Load a graph (or a shadow) on the CPU.

    Raises:
        BundleError: ONNX Runtime cannot load the graph, or its interface is not the manifest's.
    """
    return OnnxRuntimeSession(graph, inputs, outputs)


def make_options() -> Any:
    """How sessions are opened: onnxruntime.SessionOptions."""
    options = require(LIBRARY, TARGET.extra).SessionOptions()
    options.log_severity_level = 3  # errors only; warnings are about its own graph fusions
    # Else ONNX Runtime turns INT8 Q/DQ into UINT8 and, from opset 21 on, forgets output_dtype while doing so.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    # Else its kernels for weights in few bits round activations to 8 bits too, which no recipe asked for.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return options


class OnnxRuntimeSession:
    """The session protocol over onnxruntime.InferenceSession."""

    def __init__(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        ort: Any = require(LIBRARY, TARGET.extra)
        try:
            self._session = ort.InferenceSession(str(graph), make_options(), providers=["CPUExecutionProvider"])
        except MemoryError as error:
            raise MachineError(f"not enough memory to load {graph} ({graph.stat().st_size} bytes and its data file)") from error
        except Exception as error:  # onnxruntime raises a dozen unrelated pybind types for an unreadable graph
            raise BundleError(f"ONNX Runtime cannot load {graph}: {name_first_line(error)}") from error
        for side, values, specs in (
            ("inputs", self._session.get_inputs(), inputs),
            ("outputs", self._session.get_outputs(), outputs),
        ):
            check_interface(graph, side, {value.name: _describe(value) for value in values}, specs)
        self._graph, self._outputs = graph, outputs
        shadow = ", fp32-compute shadow" if graph.name.endswith(".shadow.onnx") else ""
        self.description = f"ONNX Runtime {ort.__version__} CPU{shadow}"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        names = [spec.name for spec in self._outputs]
        try:
            found = dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except MemoryError as error:
            raise MachineError(f"not enough memory to run {self._graph}") from error
        except Exception as error:  # onnxruntime raises unrelated pybind types for what a graph does while it runs
            raise BundleError(f"ONNX Runtime cannot run {self._graph}: {name_first_line(error)}") from error
        return check_results(self._graph, found, self._outputs)


def _describe(value: Any) -> tuple[str, list[int | None]]:
    """(numpy's name of its type, its sizes) of an onnxruntime.NodeArg."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(kind, value.type), [size if isinstance(size, int) else None for size in value.shape]
