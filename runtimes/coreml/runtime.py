"""Runtime `coreml`: Core ML itself, through coremltools, on a Mac. Not run yet, no Mac was at hand."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sprint_export.errors import BundleError, MachineError
from sprint_export.libraries import require
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import NEURAL_ENGINE, UNIT_KEY
from sprint_export.runtimes.coreml.package import PACKAGE, package_of
from sprint_export.runtimes.runtime import Runtime
from sprint_export.versions import is_older

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

EXTRA = "coreml"
UNITS = {NEURAL_ENGINE: "CPU_AND_NE", "gpu": "CPU_AND_GPU", "cpu": "CPU_ONLY", "all": "ALL"}  # ours -> coremltools'


class CoreML(Runtime):
    """Core ML is part of macOS."""

    package: ClassVar[str | None] = PACKAGE

    def can_run(self) -> str | None:
        """Why Core ML cannot run here, or None."""
        return None if platform.system() == "Darwin" else f"Core ML is part of macOS, this is {platform.system()}"

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the macOS that runs here cannot open a bundle that names these, or None."""
        found, oldest = platform.mac_ver()[0], runtimes.get("macOS", "")
        if is_older(found, oldest):
            return (
                f"macOS {found} runs here and {oldest} is the oldest that opens this bundle; export it with --deployment-target"
            )
        return None

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load a package by its program file, on the compute unit it was made for."""
        return CoreMLSession(package_of(graph), inputs, outputs)


RUNTIME = CoreML(name="coreml")


class CoreMLSession:
    """The session protocol over coremltools.models.MLModel, on a Mac. Not run yet; see README's status table."""

    def __init__(self, package: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        ct: Any = require("coremltools", EXTRA)
        self._inputs, self._outputs, self._ct, self._package = inputs, outputs, ct, package
        start = time.perf_counter()
        try:
            unit = ct.utils.load_spec(str(package)).description.metadata.userDefined.get(UNIT_KEY, "all")
            self._unit = getattr(ct.ComputeUnit, UNITS[unit])
            self._model = ct.models.MLModel(str(package), compute_units=self._unit)
        except MemoryError as error:
            raise MachineError(f"not enough memory to load {package}") from error
        except Exception as error:  # coremltools raises RuntimeError, ValueError and bare Exceptions for a bad package
            raise BundleError(f"Core ML cannot load {package}: {error}") from error
        self._load_s = time.perf_counter() - start
        self.description = f"Core ML on macOS {platform.mac_ver()[0]}, {unit}"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        given = {spec.name: feeds[spec.name].astype(spec.dtype) for spec in self._inputs}
        found = self._model.predict(given)
        return {spec.name: found[spec.name].astype(spec.dtype) for spec in self._outputs}

    def findings(self) -> list[Finding]:
        """How long the first load took, and how many operations each compute device is planned to run."""
        rows = [Finding("load_s", self._load_s, "s", "as loaded here; the first load on a system compiles")]
        plan = self._ct.models.compute_plan.MLComputePlan.load_from_path(self._model.get_compiled_model_path(), self._unit)
        counts: dict[str, int] = {}
        for operation in plan.model_structure.program.functions["main"].block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                name = type(usage.preferred_compute_device).__name__.removeprefix("ML").removesuffix("ComputeDevice")
                counts[name] = counts.get(name, 0) + 1
        return rows + [Finding(f"ops_on_{name}", count, "", "Core ML's plan") for name, count in sorted(counts.items())]
