"""TensorRT as a library: which package a builder is, and the process's one logger.

TensorRT keeps the first logger it sees for as long as any of its objects lives and ignores all others. It tells it what happens
in the thread that builds or loads, so builds in several threads are told apart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from sprint_export.errors import MachineError
from sprint_export.libraries import is_installed, missing_library, require

if TYPE_CHECKING:
    from types import ModuleType

BUILDERS = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}  # name -> library


def check_library(builder: str) -> None:
    """Ask for the package a builder is; nothing is imported.

    Raises:
        MachineError: it is not installed.
    """
    if is_installed(BUILDERS[builder]):
        return
    if builder == "tensorrt":  # No extra has it: its package is a stub that downloads gigabytes from NVIDIA while it installs.
        raise MachineError("tensorrt is not installed; run: pip install tensorrt, or use --builder tensorrt-rtx")
    raise missing_library(BUILDERS[builder])


def load_library(builder: str) -> ModuleType:
    """The package a builder is.

    Raises:
        MachineError: it is not installed.
    """
    check_library(builder)
    return require(BUILDERS[builder], "trt")


def find_version(builder: str) -> str:
    """The installed version of a builder.

    Raises:
        MachineError: it is not installed.
    """
    return str(load_library(builder).__version__)


@cache
def open_log(trt: ModuleType) -> Any:
    """The process's one logger, keeping errors and the kernel table of the build under way in each thread."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]  # known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._own = threading.local()

        def clear(self) -> None:
            self._own.errors, self._own.tables = [], []

        @property
        def errors(self) -> list[str]:
            return getattr(self._own, "errors", [])

        @property
        def tables(self) -> list[str]:
            return getattr(self._own, "tables", [])

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)
            elif message.startswith("Layers:\n"):
                self.tables.append(message)

    return Log()


def join_messages(messages: Iterable[str]) -> str:
    """One line, without the remark (cudaError 35) that there is no driver: a build for a named device needs none."""
    lines = (line.strip() for message in messages for line in message.splitlines() if "catchCudaError" not in line)
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "it gave no reason"
