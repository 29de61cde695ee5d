"""Runtime `coreml-checker`: saved Core ML packages, evaluated operation by operation in PyTorch, where there is no Mac.

What runs is the file: its program, its weight blob, decompressed as the format's definition says, every result rounded to its
declared type. It shows what a file computes and where half precision overflows; it does not show what a device adds to that
(order of accumulation, the runtime's own mistakes, speed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sprint_export.libraries import hush, is_installed, require
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.coreml.package import PACKAGE, package_of
from sprint_export.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from sprint_export.runtimes.inner_values import InnerGraph
    from sprint_export.runtimes.stored_tensors import StoredTensor
    from sprint_export.session import Array, Session

DESCRIPTION = "numeric checker for Core ML (PyTorch CPU, declared types)"


class CoreMLChecker(Runtime):
    """It needs torch and coremltools, on any system."""

    package: ClassVar[str | None] = PACKAGE

    def can_run(self) -> str | None:
        """Why it cannot check here, or None."""
        missing = [name for name in ("torch", "coremltools") if not is_installed(name)]
        return f"{missing[0]} is not installed; run: pip install 'sprint-export[coreml,export]'" if missing else None

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load a package by its program file."""
        require("torch", "export")
        with hush():  # coremltools reports each macOS library it lacks
            require("coremltools", "coreml")
        return CheckerSession(package_of(graph), inputs, outputs)

    def open_inner(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> InnerGraph:
        """Load a package by its program file, its inner values to be read."""
        from sprint_export.runtimes.coreml.inner_values import CheckedInnerGraph

        with hush():
            require("coremltools", "coreml")
            return CheckedInnerGraph(package_of(graph), {spec.name: spec.dtype for spec in inputs}, DESCRIPTION)

    def list_tensors(self, graph: Path) -> Iterable[StoredTensor]:
        """Every constant of a package, by its program file."""
        from sprint_export.runtimes.coreml.stored import list_package_tensors

        with hush():
            require("coremltools", "coreml")
            return list(list_package_tensors(package_of(graph)))


RUNTIME = CoreMLChecker(name="coreml-checker")


class CheckerSession:
    """The session protocol over runtimes.mil's evaluator."""

    def __init__(self, package: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        from sprint_export.runtimes.coreml.mil.evaluate import Evaluator

        self._evaluator = Evaluator(package)
        self._inputs, self._outputs = inputs, outputs
        self.description = DESCRIPTION

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        found = self._evaluator.run({spec.name: feeds[spec.name].astype(spec.dtype) for spec in self._inputs})
        return {spec.name: found[spec.name].astype(spec.dtype) for spec in self._outputs}

    def findings(self) -> list[Finding]:
        """Infinities, NaNs and the largest magnitude over all operations that ran."""
        health = self._evaluator.health
        first = health.first_infinite
        where = f"first at op {first.op!r} ({first.op_type})" if first else "over all operations"
        return [
            Finding("infinities", health.infinities, "", where),
            Finding("nans", health.nans, "", "over all operations"),
            Finding("largest_magnitude", health.largest, "", "half precision ends at 65504", is_largest=True),
        ]
