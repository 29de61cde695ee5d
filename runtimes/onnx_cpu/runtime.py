"""Runtime `onnx`: ONNX Runtime on the CPU.

It is also what checks every graph of other targets on a machine that cannot run them: a 16-bit graph comes with a shadow
(same weights, same Q/DQ, float32 arithmetic), and that is what it then opens, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, MachineError
from sprint_export.libraries import is_installed, missing_library, require
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.interfaces import check_interface, check_results, name_first_line
from sprint_export.runtimes.runtime import Runtime
from sprint_export.versions import refuse_older

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

LIBRARY, EXTRA = "onnxruntime", "runtime"
LARGE_VALUES = 1 << 20  # of an output: a picture of 600 px
_DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's names where they are not numpy's
_DTYPES |= {name: name for name in ("float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool")}


class OnnxRuntime(Runtime):
    """Every machine has a CPU."""

    def can_run(self) -> str | None:
        """Why ONNX Runtime cannot run here, or None."""
        return None if is_installed(LIBRARY) else str(missing_library(LIBRARY))

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the ONNX Runtime that is installed cannot open a bundle that names these, or None."""
        return refuse_older(LIBRARY, require(LIBRARY, EXTRA).__version__, runtimes.get(LIBRARY, ""))

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load a graph (or a shadow) on the CPU."""
        return OnnxRuntimeSession(graph, inputs, outputs)


RUNTIME = OnnxRuntime(name="onnx")


def make_options(keeps_memory: bool = True) -> Any:
    """How sessions are opened: onnxruntime.SessionOptions. Memory is kept for the next run, or goes back to the system."""
    options = require(LIBRARY, EXTRA).SessionOptions()
    options.log_severity_level = 3  # errors only; warnings are about its own graph fusions
    # Else ONNX Runtime turns INT8 Q/DQ into UINT8 and, from opset 21 on, forgets output_dtype while doing so.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    # Else its kernels for weights in few bits round activations to 8 bits too, which no recipe asked for.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    options.enable_cpu_mem_arena = keeps_memory
    return options


class OnnxRuntimeSession:
    """The session protocol over onnxruntime.InferenceSession."""

    def __init__(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        ort: Any = require(LIBRARY, EXTRA)
        is_shadow = graph.name.endswith(".shadow.onnx")  # which runs a few times, as a check
        # What a 1024 px decoder took would be kept: its output lies in the arena, so that shrinking it frees nothing, and it
        # grows from 4.1 GB to 7.8 with the second picture. Without one it takes as much of the processors.
        is_large = any(math.prod(size for size in spec.shape if isinstance(size, int)) >= LARGE_VALUES for spec in outputs)
        try:
            options = make_options(keeps_memory=not (is_shadow or is_large))
            self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
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
        self.description = f"ONNX Runtime {ort.__version__} CPU" + (", fp32-compute shadow" if is_shadow else "")

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
