"""Stage 3, quantize: measured ranges and a recipe become a QuantizedLayer per layer; weights stay lazy."""

if __name__ != "sprint_export.quantize":
    raise ImportError("import sprint_export.quantize, not the bare folder 'quantize'")

from sprint_export.quantize.student import quantize_student

__all__ = ["quantize_student"]
