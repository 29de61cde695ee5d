"""Runtime `coreai`: Core AI, here the CPU runtime of Apple's own package.

    run        on macOS 27, by the system's Core AI, on the unit the asset prefers: not run yet, no Mac was at hand
    checked    on x86-64 Linux, by the CPU runtime in Apple's own package: the one vendor runtime for an Apple format off a Mac
That runtime emulates half precision, a hundred times slower than float32. So it is given a widened copy of a 16-bit asset: the
same stored weights and the same graph, computed in float32; `description` says so.

The runtime ends the whole process when it meets a damaged program, so an asset's hash is compared before it is loaded.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import platform
import threading
import weakref
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sprint_export.errors import BundleError, MachineError
from sprint_export.files import temporary_folder
from sprint_export.libraries import is_installed, require
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import NEURAL_ENGINE, UNIT_KEY
from sprint_export.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

EXTRA = "coreai"
FUNCTION = "main"
CAST_GRAPH = (
    'coreai.graph private noinline @{name}(%arg0: {half} {{coreai.name = "x"}}) -> ({wide} {{coreai.name = "y"}}) '
    "{{ %0 = coreai.cast %arg0 : {half} to {wide}\n coreai.output %0 : {wide} }}"
)


class CoreAI(Runtime):
    """Apple publishes its package for x86-64 Linux and for Macs."""

    package: ClassVar[str | None] = ".aimodel"

    def can_run(self) -> str | None:
        """Why Core AI cannot run here, or None."""
        if is_installed("coreai"):
            return None
        return f"coreai-core is not installed; run: pip install 'sprint-export[{EXTRA}]' (x86-64 Linux, Apple silicon)"

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load an asset by its program file."""
        return CoreAISession(graph.parent, inputs, outputs)


RUNTIME = CoreAI(name="coreai")


class CoreAISession:
    """The session protocol over coreai.runtime.InferenceFunction.

    The library is asynchronous. A thread with an event loop of its own keeps the model open, so that a session works inside a
    program that has a loop as well; both end with the session.
    """

    def __init__(self, asset: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], widen: bool = True) -> None:
        authoring: Any = require("coreai.authoring", EXTRA)
        self._runtime: Any = require("coreai.runtime", EXTRA)
        self._inputs, self._outputs = inputs, outputs
        unit, is_system = _read_unit(asset), self._runtime.SpecializationOptions.is_supported()
        self._loop = _Loop()
        self._close = weakref.finalize(self, _Loop.close, self._loop)
        try:
            with temporary_folder() as folder:  # needed until the model is open
                loaded = authoring.AIModelAsset.load(asset)
                is_wide = widen and not is_system and widen_program(program := loaded.program)
                if is_wide:
                    loaded = program.save_asset(folder / asset.name)
                opening = loaded.executable(_specialize(self._runtime, unit) if is_system else None)
                model = self._loop.run(self._loop.stack.enter_async_context(opening))
                self._function = model.load_function(FUNCTION)
        except MemoryError as error:
            self._close()
            raise MachineError(f"not enough memory to load {asset}") from error
        except Exception as error:  # the runtime raises RuntimeError, KeyError and bare Exceptions for a bad asset
            self._close()
            raise BundleError(f"Core AI cannot load {asset}: {error}; export the student again") from error
        found = self._function.desc
        for side, names, specs in (("inputs", found.input_names, inputs), ("outputs", found.output_names, outputs)):
            if sorted(names) != sorted(spec.name for spec in specs):
                self._close()
                wanted = sorted(spec.name for spec in specs)
                raise BundleError(f"{asset} has {side} {sorted(names)}, the manifest says {wanted}; export the student again")
        version = importlib.metadata.version("coreai-core")
        here = f"Core AI {version} CPU" + (", fp32-compute copy" if is_wide else "")
        self.description = f"Core AI on macOS {platform.mac_ver()[0]}, {unit}" if is_system else here

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        import numpy as np

        arrays = {s.name: self._runtime.NDArray(np.ascontiguousarray(feeds[s.name], s.dtype)) for s in self._inputs}
        found = self._loop.run(self._function(inputs=arrays))
        return {spec.name: np.array(found[spec.name].numpy(), spec.dtype) for spec in self._outputs}  # a copy: views die with it


class _Loop:
    """An event loop in a thread, and what has to be closed in it."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="core-ai")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a coroutine's result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Leave what was entered, then end the thread."""
        self.run(self.stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _read_unit(asset: Path) -> str:
    """The compute unit an asset prefers, once its program has the SHA-256 that stands beside it."""
    try:
        wanted = (asset / "main.hash").read_bytes()
        with (asset / "main.mlirb").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        unit = str(json.loads((asset / "metadata.json").read_text("utf-8"))["creatorDefinedMetadata"][UNIT_KEY])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{asset} is not a whole Core AI asset ({type(error).__name__}: {error}); export the student again"
        ) from error
    if found != wanted:
        raise BundleError(
            f"{asset}/main.mlirb has SHA-256 {found.hex()[:16]}..., main.hash says {wanted.hex()[:16]}...: "
            "the file is truncated or altered; export the student again"
        )
    return unit


def widen_program(program: Any) -> bool:
    """Let an AIProgram compute in float32 what it computes in half precision, in place; constants stay as stored and are cast.

    The casts stand in graphs of their own that may not be inlined: where the compiler sees one it does it at once, and that gets
    every value below 6.1e-5, the smallest normal number, wrong (coreai-core 1.0.0b3: 6.0e-5 becomes 2.4e-7).

    Returns:
        Whether there was anything to widen.
    """
    ir: Any = require("coreai._compiler.ir", EXTRA)
    dialect: Any = require("coreai._compiler.dialects.coreai", EXTRA)
    module = program._module._mlir_module
    casts: dict[str, str] = {}  # type -> the graph that widens it
    found = False

    def wide(kind: Any) -> Any:
        is_half = isinstance(kind, ir.RankedTensorType) and str(kind.element_type) == "f16"
        return ir.RankedTensorType.get(kind.shape, ir.F32Type.get()) if is_half else kind

    def invoke_cast(value: Any, kind: Any, before: Any) -> Any:
        name = casts.setdefault(str(value.type), f"widen_{len(casts)}")
        return dialect.InvokeOp([kind], ir.Attribute.parse(f"#param.constant<@{name}> : !param.symbol"), [value], ip=before)

    with module.context, ir.Location.unknown():
        for operation in list(_walk(module.operation)):
            for argument in (a for region in operation.regions for block in region.blocks for a in block.arguments):
                argument.set_type(wide(argument.type))
            if operation.name == "coreai.graph":
                kind = operation.attributes["function_type"].value
                kind = ir.FunctionType.get([wide(k) for k in kind.inputs], [wide(k) for k in kind.results])
                operation.attributes["function_type"] = ir.TypeAttr.get(kind)
            for result in operation.results:
                if (kind := wide(result.type)) == result.type:
                    continue
                found = True
                value = operation.attributes["value"] if operation.name == "coreai.constant" else None
                if value is not None and getattr(value, "is_splat", False):  # one value, which some operations want to see
                    number = ir.FloatAttr.get(ir.F32Type.get(), ir.FloatAttr(value.get_splat_value()).value)
                    operation.attributes["value"] = ir.DenseElementsAttr.get_splat(kind, number)
                    result.set_type(kind)
                elif value is not None:
                    cast = invoke_cast(result, kind, ir.InsertionPoint.after(operation)).operation
                    result.replace_all_uses_except(cast.results[0], [cast])
                else:
                    result.set_type(kind)
        for half, name in casts.items():
            text = CAST_GRAPH.format(name=name, half=half, wide=half.replace("f16", "f32"))
            parsed = ir.Module.parse(f"module {{ {text} }}")
            parsed.body.operations[0].clone(ip=ir.InsertionPoint(module.body))
    return found


def _walk(operation: Any) -> Iterator[Any]:
    """An MLIR operation and all within it."""
    yield operation
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _walk(inner.operation)


def _specialize(runtime: Any, unit: str) -> Any:
    """The system's options for a unit."""
    options = runtime.SpecializationOptions
    if unit in ("all", "cpu"):
        return options.default() if unit == "all" else options.cpu_only()
    kinds = runtime.ComputeUnitKind
    return options.from_preferred_compute_unit_kind(kinds.neural_engine() if unit == NEURAL_ENGINE else kinds.gpu())
