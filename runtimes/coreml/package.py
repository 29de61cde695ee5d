"""Where a Core ML package lies on the disk."""

from __future__ import annotations

from pathlib import Path

PACKAGE = ".mlpackage"


def package_of(graph: Path) -> Path:
    """The `.mlpackage` folder that holds a program file."""
    return next(parent for parent in graph.parents if parent.suffix == PACKAGE)
