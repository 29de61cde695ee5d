"""Runtime `trt`: an engine on a machine that has the GPU it was built for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sprint_export.devices import find_device
from sprint_export.errors import BundleError, MachineError
from sprint_export.libraries import is_installed, require
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.runtime import Runtime
from sprint_export.runtimes.trt.gpus import find_gpus
from sprint_export.runtimes.trt.library import BUILDERS, find_version, load_library
from sprint_export.runtimes.trt.session import EngineSession
from sprint_export.versions import refuse_other

if TYPE_CHECKING:
    from sprint_export.session import Session


class TensorRT(Runtime):
    """TensorRT for RTX, or the classic one for engines that it built."""

    opens_engines: ClassVar[bool] = True

    @property
    def replays(self) -> bool | None:
        """No: each call enqueues the engine's kernels."""
        return False

    def can_run(self) -> str | None:
        """Why engines cannot run on this machine, or None when they can. Cheap: asks the driver, imports nothing."""
        if not find_gpus():
            return "no NVIDIA GPU or no driver (libcuda lists no device)"
        if not any(is_installed(library) for library in BUILDERS.values()):
            return "tensorrt_rtx is not installed; run: pip install 'sprint-export[trt]'"
        if not is_installed("cuda") or not is_installed("cuda.bindings"):
            return "cuda-python is not installed; run: pip install 'sprint-export[trt]'"
        return None

    def refuse_device(self, device: str) -> str | None:
        """Why an engine for that device cannot run on the first GPU here, or None."""
        wanted, found = find_device(device).compute_capability, next(iter(find_gpus()), None)
        if wanted is None or found is None or wanted == found:
            return None
        numbers = [".".join(map(str, capability)) for capability in (wanted, found)]
        return f"its engine is for {device}, compute capability {numbers[0]}; the GPU here has {numbers[1]}"

    def refuse_version(self, runtimes: Mapping[str, str]) -> str | None:
        """Why the builders that are installed cannot open a bundle whose engines were built by these, or None."""
        reasons = [refuse_other(name, find_version(name), runtimes[name]) for name in BUILDERS if name in runtimes]
        return next((reason for reason in reasons if reason is not None), None)

    def open_session(self, graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
        """Load an engine onto the first GPU.

        Raises:
            BundleError: not an engine, or its tensors are not the given ones.
            MachineError: no GPU, a library is missing, or the engine is for another GPU or another version.
        """
        magic = _read_start(graph) if graph.is_file() else None
        if magic is None or magic[1:] != b"trt":
            found = "no file" if magic is None else repr(magic)
            raise BundleError(f"{graph}: expected a TensorRT engine, found {found}; build it again")
        if not find_gpus():
            raise MachineError(f"{graph.name} cannot run here: {self.can_run()}; run it on the RTX PC it was built for")
        # TensorRT for RTX begins its engines with "vtrt"; any other letter is classic TensorRT's.
        trt = load_library("tensorrt-rtx" if magic == b"vtrt" else "tensorrt")
        return EngineSession(trt, require("cuda.bindings.runtime", "trt"), graph, inputs, outputs)


RUNTIME = TensorRT(name="trt")


def _read_start(engine: Path) -> bytes:
    with engine.open("rb") as file:
        return file.read(4)
