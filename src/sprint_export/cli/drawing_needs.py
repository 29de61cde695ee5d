"""What verbs that draw ask of the machine before they do anything: libraries and address space."""

from __future__ import annotations

from sprint_export.libraries import DRAWING, DRAWING_SPACE, check_installed
from sprint_export.process_memory import check_address_space


def check_drawing(*modules: str) -> None:
    """Ask for what drawing takes: libraries, these among them, and memory.

    Raises:
        MachineError: it is not there.
    """
    check_installed((*DRAWING, *modules))
    check_address_space(DRAWING_SPACE, "ONNX Runtime with a small student")
