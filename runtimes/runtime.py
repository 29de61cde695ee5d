"""What every runtime offers: whether it can run here, whether its version can, and a session over one graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.student import TensorSpec
from sprint_export.registry import load_member

if TYPE_CHECKING:
    from sprint_export.runtimes.inner_values import InnerGraph
    from sprint_export.runtimes.stored_tensors import StoredTensor
    from sprint_export.session import Session


@dataclass(frozen=True)
class Runtime(ABC):
    """What runs a bundle's graphs; a target names those that run its own. Its library is imported when a session is opened.

    Args:
        name: its own.
        threads: of the CPU that a network may take; None: as many as its library chooses.
    """

    name: str
    threads: int | None = None
    takes_threads: ClassVar[bool] = False  # whether its library can be told how many
    opens_engines: ClassVar[bool] = False  # what a target built for the bundle's device, not the graph itself
    package: ClassVar[str | None] = None  # how a folder is called that its library reads as one file

    @property
    def title(self) -> str:
        """What tells it from others: its name and, where one was asked for, its provider."""
        return self.name

    @property
    def opens_shadows(self) -> bool:
        """Whether it takes the shadow of a graph that was made for another runtime, where there is one."""
        return True

    @property
    def replays(self) -> bool | None:
        """Whether it replays the launches of kernels from a recorded graph; None where the host launches none."""
        return None

    def list_providers(self) -> Mapping[str, str]:
        """What its library can run a graph on, e.g. ONNX Runtime's execution providers: name -> meaning; {}: no choice."""
        return {}

    def on(self, provider: str) -> Runtime:
        """The same runtime on one of its providers.

        Raises:
            InputError: it has no providers.
        """
        raise InputError(f"runtime {self.name} has no provider {provider!r}; leave --provider out, or --runtime")

    def limit_threads(self, threads: int | None) -> Runtime:
        """The same runtime with so many threads for a network; None: as its library chooses.

        Raises:
            RefusedError: its library cannot be told.
        """
        if threads is None:
            return self
        if not self.takes_threads:
            raise RefusedError(f"runtime {self.title} cannot be told how many threads to take; leave --threads out")
        return replace(self, threads=threads)

    @abstractmethod
    def can_run(self) -> str | None:
        """Why it cannot run on this machine, or None. Cheap: nothing is imported."""

    def refuse_device(self, device: str) -> str | None:
        """Why what was built for a device of that name cannot run on this machine's own, or None."""
        return None

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the version that is installed cannot open a bundle that names these (Bundle.runtimes), or None."""
        return None

    @abstractmethod
    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load a graph, or an engine.

        Raises:
            BundleError: it cannot be read, or its interface is not the manifest's.
            MachineError: the library, a device or memory is missing.
        """

    def open_inner(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> InnerGraph:
        """Load a graph whose inner values can be read, for a validation that asks where an error is born.

        Raises:
            RefusedError: this runtime shows none; the message says why. Else as `open_session`.
        """
        raise RefusedError(f"{self.title} shows no values inside a network")

    def list_tensors(self, graph: Path) -> Iterable[StoredTensor]:
        """Every tensor that a graph's file holds, for a validation that asks whether they are what quantization meant.

        Raises:
            RefusedError: this runtime does not read them; the message says why. BundleError: the file is damaged.
        """
        raise RefusedError(f"{self.title} shows no weights of a file")


def load_runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    runtime: Runtime = load_member("runtime", name).RUNTIME
    return runtime
