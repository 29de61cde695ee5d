"""Stage 3, quantize: measured ranges and a recipe become a QuantizedLayer per layer; weights stay lazy."""

from typing import TYPE_CHECKING, Any

if __name__ != "sprint_export.quantize":
    raise ImportError("import sprint_export.quantize, not the bare folder 'quantize'")

if TYPE_CHECKING:
    from sprint_export.quantize.student import quantize_student

__all__ = ["quantize_student"]


def __getattr__(name: str) -> Any:
    """Fetch `quantize_student`, which needs torch, only when asked: recipes and precisions are listed without it."""
    if name == "quantize_student":
        from sprint_export.quantize.student import quantize_student

        return quantize_student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
