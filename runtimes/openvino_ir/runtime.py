"""Runtime `openvino`: an IR on the device it was made for.

cpu        run here, in CI; the plugin computes what is not INT8 in bfloat16 where the CPU has it, else in float32, and
`description` says which
gpu, npu   opened by name and never replaced by the CPU: not run yet, no such device was at hand
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sprint_export.errors import BundleError, MachineError, RefusedError
from sprint_export.libraries import is_installed, require
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import UNIT_KEY
from sprint_export.runtimes.interfaces import check_interface, check_results
from sprint_export.runtimes.openvino_ir.inner_graph import cut_out, has_layout
from sprint_export.runtimes.openvino_ir.inner_values import OpenVinoInnerGraph
from sprint_export.runtimes.openvino_ir.target import UNITS
from sprint_export.runtimes.runtime import Runtime
from sprint_export.versions import refuse_older

if TYPE_CHECKING:
    from sprint_export.runtimes.inner_values import InnerGraph
    from sprint_export.runtimes.stored_tensors import StoredTensor
    from sprint_export.session import Array, Session

LIBRARY = EXTRA = "openvino"
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32"}  # OpenVINO's -> numpy's
HINTS = {"PERFORMANCE_HINT": "LATENCY"}
CPU = "CPU"  # OpenVINO's name of the one device that has threads
MULTIPLIES = ("FullyConnected", "Convolution", "GroupConvolution", "MatMul")  # layer types of the CPU plugin


@dataclass(frozen=True)
class OpenVino(Runtime):
    """Every machine has a CPU."""

    takes_threads: ClassVar[bool] = True

    def can_run(self) -> str | None:
        """Why OpenVINO cannot run here, or None."""
        return None if is_installed(LIBRARY) else f"openvino is not installed; run: pip install 'sprint-export[{EXTRA}]'"

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the OpenVINO that is installed cannot open a bundle that names these, or None."""
        return refuse_older(LIBRARY, require(LIBRARY, EXTRA).__version__, runtimes.get(LIBRARY, ""))

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load and compile an IR."""
        return OpenVinoSession(graph, inputs, outputs, self.threads)

    def open_inner(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> InnerGraph:
        """Load an IR, its inner values to be read."""
        device = _choose_device(graph, load_model(graph, inputs, outputs))

        def compile_model(model: Any) -> Any:
            return open_core().compile_model(model, device, give_hints(device, self.threads))

        return OpenVinoInnerGraph(graph, partial(load_model, graph, inputs, outputs), compile_model, f"OpenVINO {device}")

    def list_tensors(self, graph: Path) -> Iterable[StoredTensor]:
        """Every constant of an IR."""
        from sprint_export.runtimes.openvino_ir.stored import list_ir_tensors

        with _reading(graph):
            return list(list_ir_tensors(open_core().read_model(graph, graph.with_suffix(".bin"))))


RUNTIME = OpenVino(name="openvino")


class OpenVinoSession:
    """The session protocol over openvino.CompiledModel."""

    def __init__(
        self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], threads: int | None = None
    ) -> None:
        openvino: Any = require(LIBRARY, EXTRA)
        core, start = open_core(), time.perf_counter()
        model = load_model(graph, inputs, outputs)
        with _reading(graph):
            self._tables = find_tables(model)
        self._device = _choose_device(graph, model)
        try:
            self._model = core.compile_model(model, self._device, give_hints(self._device, threads))
        except RuntimeError as error:
            raise MachineError(f"OpenVINO cannot compile {graph} for {self._device}: {_last_line(error)}") from error
        self._load_s, self._outputs, self._graph = time.perf_counter() - start, outputs, graph
        self._request = self._model.create_infer_request()
        kind = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version} {self._device}, {kind} where not int8"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        for name, rows in self._tables.items():
            least, most = int(feeds[name].min()), int(feeds[name].max())
            if least < 0 or most >= rows:  # OpenVINO itself reads zeros there, silently
                raise BundleError(f"{self._graph}: {name!r} holds ids from {least} to {most}, its table has {rows} rows")
        try:
            self._request.infer(dict(feeds))
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot run {self._graph}: {_last_line(error)}") from error
        found = {spec.name: self._request.get_tensor(spec.name).data.copy() for spec in self._outputs}
        return check_results(self._graph, found, self._outputs)

    def findings(self) -> list[Finding]:
        """How long loading took, and how many of the multiplying layers the compiled network runs in which type."""
        rows = [Finding("load_s", self._load_s, "s", "read and compiled")]
        found = Counter(kind for _, _, kind in self.multiplying_layers())
        return rows + [Finding(f"kernels_{kind}", count, "", "that multiply in it") for kind, count in sorted(found.items())]

    def multiplying_layers(self) -> list[tuple[str, str, str]]:
        """(name, layer type, type it multiplies in) of every gemm and convolution of the compiled network, e.g. "int8".

        The attention that the plugin fuses into one kernel is a Subgraph and not among them.
        """
        layers = []
        for operation in self._model.get_runtime_model().get_ordered_ops():
            info = operation.get_rt_info()
            kind = info["layerType"].astype(str)
            if kind in MULTIPLIES:
                primitive = info["primitiveType"].astype(str).rpartition("_")[2].lower()
                layers.append((operation.get_friendly_name(), kind, {"i8": "int8"}.get(primitive, primitive)))
        return layers


def give_hints(device: str, threads: int | None) -> dict[str, Any]:
    """What a model is compiled with.

    Raises:
        RefusedError: a number of threads, for a device that has none.
    """
    if threads is None:
        return {**HINTS}
    if device != CPU:
        raise RefusedError(f"OpenVINO {device} cannot be told how many threads to take; leave --threads out")
    return {**HINTS, "INFERENCE_NUM_THREADS": threads}


def load_model(graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Any:
    """The openvino.Model of an IR between our own inputs and outputs, not yet compiled.

    Raises:
        BundleError: it cannot be read, or its interface is not the manifest's.
    """
    with _reading(graph):
        model = open_core().read_model(graph, graph.with_suffix(".bin"))
        if has_layout(model):
            model = cut_out(graph, model, inputs, outputs)
        for side, values, specs in (("inputs", model.inputs, inputs), ("outputs", model.outputs, outputs)):
            check_interface(graph, side, {value.any_name: _describe(value) for value in values}, specs)
    return model


@contextlib.contextmanager
def _reading(graph: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the only type OpenVINO raises
        raise BundleError(f"OpenVINO cannot read {graph}: {_last_line(error)}") from error


def _choose_device(graph: Path, model: Any) -> str:
    """The device, by OpenVINO's name, that a model was made for.

    Raises:
        BundleError: the model names none that there is. MachineError: this machine has no such device.
    """
    with _reading(graph):
        unit = model.get_rt_info(UNIT_KEY.split(".")).astype(str)
    if unit not in UNITS:
        raise BundleError(f"{graph} is made for {unit!r}; expected one of {', '.join(UNITS)}; export the student again")
    return _find_unit(open_core(), UNITS[unit])


def _describe(value: Any) -> tuple[str, list[int | None]]:
    """(numpy's name of its type, its sizes) of an openvino.Output."""
    sizes = [size.get_length() if size.is_static else None for size in value.partial_shape]
    return _DTYPES.get(value.element_type.get_type_name(), value.element_type.get_type_name()), sizes


def find_tables(model: Any) -> dict[str, int]:
    """Inputs whose values pick rows of a constant table -> how many rows it has."""
    found = {}
    for operation in model.get_ops():
        if operation.get_type_name() == "Gather" and operation.input(0).get_partial_shape().is_static:
            source = operation.input(1).get_source_output().get_node()
            while source.get_type_name() in ("Convert", "Reshape", "Unsqueeze", "Squeeze"):
                source = source.input(0).get_source_output().get_node()
            if source.get_type_name() == "Parameter":
                found[source.output(0).any_name] = int(operation.input(0).get_shape()[0])
    return found


@cache
def open_core() -> Any:
    """One Core for as long as the process lives.

    Each registers a stack for signal handlers and, when it goes, puts back the one before it (CPU plugin, 2026.4). Of several
    that go in the order they came, the last puts back one that is gone, and the next Ctrl-C is a segmentation fault.
    """
    return require(LIBRARY, EXTRA).Core()


def _find_unit(core: Any, name: str) -> str:
    """The device of that kind, by OpenVINO's name.

    Raises:
        MachineError: there is none; the message lists what there is. The CPU never stands in for another device.
    """
    available = list(core.available_devices)
    if not any(device.split(".")[0] == name for device in available):
        raise MachineError(
            f"OpenVINO finds no {name} here, it has: {', '.join(available)}; install the device's driver, or export with "
            "--device cpu"
        )
    return name


def _last_line(error: RuntimeError) -> str:
    """OpenVINO's messages are traces through its own files; the last line says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
