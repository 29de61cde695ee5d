"""What verbs ask of the machine before they do anything."""

from __future__ import annotations

from sprint_export.clear_errors import check_space
from sprint_export.libraries import DRAWING, DRAWING_SPACE, check_installed


def check_drawing(*modules: str) -> None:
    """Ask for what drawing takes: libraries, these among them, and memory.

    Raises:
        MachineError: it is not there.
    """
    check_installed((*DRAWING, *modules))
    check_space(DRAWING_SPACE, "ONNX Runtime with a small student")
