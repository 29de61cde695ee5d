"""Bytes of weights as schemes store them, counted from shapes before anything is rounded or written.

    palette   values bits / 8  +  groups 2^bits f          integers   values bits / 8  +  scales f          float   values f
where f is the bytes of a value of the graph's float type: everything that is not quantized, and tables and scales.
Not counted: file headers and graphs; a format's padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.quantize.schemes.scheme import load_scheme

FLOAT_BYTES = 2  # of graphs in 16 bits
_COLUMNS = {"fp32": ("fp32", 4), "fp16": ("16-bit", 2), "bf16": ("16-bit", 2)}  # graph type -> Device.tflops, bytes a value


def count_value_bytes(dtype: str) -> int:
    """Of a value in a graph of this type: "fp32", "fp16" or "bf16"."""
    return _COLUMNS[dtype][1]


def find_column(dtype: str) -> str:
    """The column of a device's peaks that a graph of this type multiplies in."""
    return _COLUMNS[dtype][0]


def count_layer_bytes(shape: Sequence[int], how: QuantizedLayer | None, size: int = FLOAT_BYTES) -> int:
    """Bytes of a weight [out, in, ...] with what its scheme stores beside it; None is float."""
    if how is None:
        return math.prod(shape) * size
    return load_scheme(how.scheme).count_bytes(shape, how, size)


def count_student_bytes(student: Student, layers: Mapping[str, QuantizedLayer], float_bytes: int = FLOAT_BYTES) -> int:
    """Bytes of all weights, with these layers (by `role.module`) rounded and everything else in float."""
    by_weight = {f"{layer}.weight": how for layer, how in layers.items()}
    return sum(
        count_layer_bytes(handle.shape, by_weight.get(f"{role}.{name}"), float_bytes)
        for role, component in student.components.items()
        for name, handle in component.weights.items()
    )
