"""Runtime `onnx`: ONNX Runtime on the CPU or, where it is asked for, on another of its execution providers.

It is also what checks every graph of other targets on a machine that cannot run them: a 16-bit graph comes with a shadow
(same weights, same Q/DQ, float32 arithmetic), and that is what it then opens, and says so.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sprint_export.errors import BundleError, MachineError, SprintExportError
from sprint_export.files import open_temporary_folder
from sprint_export.libraries import is_installed, missing_library, require
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.interfaces import check_interface, check_results, name_first_line
from sprint_export.runtimes.onnx_cpu.placement import Placement, read_placement
from sprint_export.runtimes.onnx_cpu.providers import CPU, PROVIDERS, Provider, add_provider, refuse_provider
from sprint_export.runtimes.onnx_cpu.replayed import BoundRun
from sprint_export.runtimes.runtime import Runtime
from sprint_export.versions import refuse_older

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from sprint_export.runtimes.inner_values import InnerGraph
    from sprint_export.runtimes.stored_tensors import StoredTensor
    from sprint_export.session import Array, Session

LIBRARY, EXTRA = "onnxruntime", "runtime"
LARGE_VALUES = 1 << 20  # of an output: a picture of 600 px
_DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's names where they are not numpy's
_DTYPES |= {name: name for name in ("float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool")}


@dataclass(frozen=True)
class OnnxRuntime(Runtime):
    """Every machine has a CPU; `provider` is one of providers.PROVIDERS."""

    provider: str = CPU
    takes_threads: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Its name, and what it runs on where that was asked for."""
        return self.name if self.provider == CPU else f"{self.name} on {self.provider}"

    @property
    def opens_shadows(self) -> bool:
        """A provider that compiles a GPU's graph takes that graph; all others take the shadow that it comes with."""
        return not PROVIDERS[self.provider].reads_own_graph

    @property
    def replays(self) -> bool | None:
        """By its provider."""
        return PROVIDERS[self.provider].replays

    def list_providers(self) -> Mapping[str, str]:
        """Name -> what it runs on, and what brings it."""
        return {each.name: f"{each.where}; {each.install}" for each in PROVIDERS.values()}

    def on(self, provider: str) -> Runtime:
        """The same runtime on one of its providers."""
        return replace(self, provider=provider)

    def can_run(self) -> str | None:
        """Why ONNX Runtime, or the provider that was asked for, cannot run here, or None."""
        if not is_installed(LIBRARY):
            return str(missing_library(LIBRARY))
        return None if self.provider == CPU else refuse_provider(self.provider, require(LIBRARY, EXTRA))

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the ONNX Runtime that is installed cannot open a bundle that names these, or None."""
        return refuse_older(LIBRARY, require(LIBRARY, EXTRA).__version__, runtimes.get(LIBRARY, ""))

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load a graph (or a shadow) on the provider."""
        return OnnxRuntimeSession(graph, inputs, outputs, self.provider, self.threads)

    def open_inner(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> InnerGraph:
        """Load a graph (or a shadow) on the provider, its inner values to be read."""
        from sprint_export.runtimes.onnx_cpu.inner_values import OnnxInnerGraph

        return OnnxInnerGraph(graph, self.provider, make_options(keeps_memory=False, threads=self.threads))

    def list_tensors(self, graph: Path) -> Iterable[StoredTensor]:
        """Every initializer of a graph."""
        from sprint_export.runtimes.onnx_cpu.stored import list_onnx_tensors

        return list_onnx_tensors(graph)


RUNTIME = OnnxRuntime(name="onnx")


def make_options(keeps_memory: bool = True, threads: int | None = None) -> Any:
    """How sessions are opened: onnxruntime.SessionOptions.

    Args:
        keeps_memory: for the next run; else it goes back to the system.
        threads: of an operator, the caller's among them; None: one a core.
    """
    options = require(LIBRARY, EXTRA).SessionOptions()
    options.log_severity_level = 3  # errors only; warnings are about its own graph fusions
    # Else ONNX Runtime turns INT8 Q/DQ into UINT8 and, from opset 21 on, forgets output_dtype while doing so.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    # Else its kernels for weights in few bits round activations to 8 bits too, which no recipe asked for.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # Else a network's threads go on waiting at full speed when it is done, beside those of the network that runs after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_cpu_mem_arena = keeps_memory
    options.intra_op_num_threads = threads or 0  # 0: ONNX Runtime's own choice
    return options


class OnnxRuntimeSession:
    """The session protocol over onnxruntime.InferenceSession.

    On another provider than the CPU's the first run is profiled, and the nodes that it left to the CPU are said.
    """

    def __init__(
        self,
        graph: Path,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        provider: str = CPU,
        threads: int | None = None,
    ) -> None:
        ort: Any = require(LIBRARY, EXTRA)
        is_shadow = graph.name.endswith(".shadow.onnx")  # which runs a few times, as a check
        # What a 1024 px decoder took would be kept: its output lies in the arena, so that shrinking it frees nothing, and it
        # grows from 4.1 GB to 7.8 with the second picture. Without one it takes as much of the processors.
        is_large = any(math.prod(size for size in spec.shape if isinstance(size, int)) >= LARGE_VALUES for spec in outputs)
        self._provider = PROVIDERS[provider]
        if self._provider.replays and any(not isinstance(size, int) for spec in (*inputs, *outputs) for size in spec.shape):
            raise MachineError(
                f"{provider}: {graph} takes any size, and a recorded run has one; use cuda, or leave --dynamic out"
            )
        self._placement: Placement | None = None
        options = make_options(not (is_shadow or is_large), threads)
        self._session, self._profiles = _open(ort, graph, options, self._provider, is_shadow)
        for side, values, specs in (
            ("inputs", self._session.get_inputs(), inputs),
            ("outputs", self._session.get_outputs(), outputs),
        ):
            check_interface(graph, side, {value.name: _describe(value) for value in values}, specs)
        self._graph, self._outputs = graph, outputs
        self._bound = BoundRun(ort, self._session, outputs) if self._provider.replays else None
        self._title = f"ONNX Runtime {ort.__version__} {'CPU' if provider == CPU else provider}"
        self._title += ", fp32-compute shadow" if is_shadow else ""

    @property
    def description(self) -> str:
        """What runs it and where; once it ran, how many of its nodes the provider left to the CPU."""
        if self._placement is None:
            return self._title
        count = self._placement.count(PROVIDERS[CPU].library)
        return f"{self._title}, {f'{count} of {self._placement.total} nodes on the CPU' if count else 'every node'}"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name.

        Raises:
            MachineError: not enough memory, or the provider ran no node of the graph.
            BundleError: the graph cannot run, or gives what the manifest does not say.
        """
        names = [spec.name for spec in self._outputs]
        try:
            values = self._session.run(names, dict(feeds)) if self._bound is None else self._bound.run(feeds)
            found = dict(zip(names, values, strict=True))
        except MemoryError as error:
            raise MachineError(f"not enough memory to run {self._graph}") from error
        except Exception as error:  # onnxruntime raises unrelated pybind types for what a graph does while it runs
            raise BundleError(f"ONNX Runtime cannot run {self._graph}: {name_first_line(error)}") from error
        if self._profiles is not None:
            self._placement, self._profiles = self._read_placement(self._profiles), None
        return check_results(self._graph, found, self._outputs)

    def findings(self) -> list[Finding]:
        """Nodes that ran on the CPU beside another provider; nothing of a session on the CPU alone, or before its first run."""
        if self._placement is None:
            return []
        note = ", ".join(f"{operator} {count}" for operator, count in self._placement.on_cpu.items())
        count = self._placement.count(PROVIDERS[CPU].library)
        told = f"of {self._placement.total} that {self._provider.name} was to run{': ' if note else ''}{note}"
        return [Finding("nodes_on_cpu", count, "nodes", told)]

    def _read_placement(self, folder: TemporaryDirectory[str]) -> Placement:
        with folder:
            placement = read_placement(Path(self._session.end_profiling()))
        if not placement.count(self._provider.library):
            raise MachineError(
                f"{self._provider.name} ran no node of {self._graph}: all {placement.total} ran elsewhere "
                f"({', '.join(placement.nodes)}); leave --provider out, or take a bundle in a form that it has kernels for"
            )
        return placement


def _open(ort: Any, graph: Path, options: Any, provider: Provider, is_shadow: bool) -> tuple[Any, TemporaryDirectory[str] | None]:
    """An onnxruntime.InferenceSession and, on another provider than the CPU's, the folder of its first run's profile."""
    folder = None if provider.name == CPU else open_temporary_folder()
    said = io.StringIO()
    try:
        if folder is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder.name, "profile"))
        with contextlib.redirect_stdout(said) if folder else contextlib.nullcontext():  # older versions print why they fell back
            providers = add_provider(provider.name, ort, options, is_shadow)
            session = ort.InferenceSession(str(graph), options, providers=providers, enable_fallback=0)
    except MemoryError as error:
        raise MachineError(f"not enough memory to load {graph} ({graph.stat().st_size} bytes and its data file)") from error
    except SprintExportError:
        raise
    except Exception as error:  # onnxruntime raises a dozen unrelated pybind types for an unreadable graph
        if folder is not None:
            raise MachineError(f"{provider.name} cannot open {graph} here: {name_first_line(error)}") from error
        raise BundleError(f"ONNX Runtime cannot load {graph}: {name_first_line(error)}") from error
    if provider.library not in session.get_providers():
        why = next((line for line in said.getvalue().splitlines() if line.startswith("EP Error ")), "it does not say why")
        raise MachineError(f"{provider.name} cannot run here: {why.removeprefix('EP Error ')[:400]}; leave --provider out")
    session.disable_fallback()
    return session, folder


def _describe(value: Any) -> tuple[str, list[int | None]]:
    """(numpy's name of its type, its sizes) of an onnxruntime.NodeArg."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(kind, value.type), [size if isinstance(size, int) else None for size in value.shape]
