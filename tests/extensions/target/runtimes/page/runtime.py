"""Runtime `page`: what a page would do, done by ONNX Runtime here; it counts how often it is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.runtime import Runtime, load_runtime

if TYPE_CHECKING:
    from sprint_export.session import Array, Session


class PageRuntime(Runtime):
    """Runs where ONNX Runtime does."""

    def can_run(self) -> str | None:
        """Why it cannot run here, or None."""
        return load_runtime("onnx").can_run()

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """A session over ONNX Runtime's."""
        return PageSession(load_runtime("onnx").open_session(graph, inputs, outputs))


class PageSession:
    """The session protocol, counting."""

    def __init__(self, inner: Session) -> None:
        self._inner, self._calls, self.description = inner, 0, "a page's stand-in"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        self._calls += 1
        return self._inner.run(feeds)

    def findings(self) -> list[Finding]:
        """How often it ran."""
        return [Finding("calls", self._calls, "")]


RUNTIME = PageRuntime(name="page")
