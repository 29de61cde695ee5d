"""Stage 6, validate: a bundle beside its PyTorch original on the same prompts and noise; gates with their reasons; a report."""

from typing import TYPE_CHECKING, Any

if __name__ != "sprint_export.validate":
    raise ImportError("import sprint_export.validate, not the bare folder 'validate'")

if TYPE_CHECKING:
    from sprint_export.validate.bundle import validate_bundle

__all__ = ["validate_bundle"]


def __getattr__(name: str) -> Any:
    """Fetch `validate_bundle`, which needs torch, only when asked: detector and metrics are useful without it."""
    if name == "validate_bundle":
        from sprint_export.validate.bundle import validate_bundle

        return validate_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
