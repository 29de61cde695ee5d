"""Stage 4, export: a specialized (and perhaps quantized) student becomes files; the wall behind which there is no torch."""

from typing import TYPE_CHECKING, Any

if __name__ != "sprint_export.export":
    raise ImportError("import sprint_export.export, not the bare folder 'export'")

if TYPE_CHECKING:
    from sprint_export.export.student import export_student

__all__ = ["export_student"]


def __getattr__(name: str) -> Any:
    """Fetch `export_student`, which needs torch, only when asked: runtimes read bundles from this folder without it."""
    if name == "export_student":
        from sprint_export.export.student import export_student

        return export_student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
