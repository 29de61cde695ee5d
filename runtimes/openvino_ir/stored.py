"""Constants of an OpenVINO IR as tensors that can be compared with a student's; 4-bit ones are taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from sprint_export.runtimes.stored_tensors import StoredTensor

if TYPE_CHECKING:
    from sprint_export.session import Array

CODES = ("i4", "u4", "i8", "u8", "f8e4m3", "f8e5m2")
FLOATS = ("f32", "f16", "bf16", "f64")
SIGNED, UNSIGNED = "i4", "u4"


def list_ir_tensors(model: Any) -> Iterator[StoredTensor]:
    """Every constant of an openvino.Model that is a number or a code."""
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Constant":
            continue
        kind = operation.get_element_type().get_type_name()
        if kind in (*CODES, *FLOATS):
            shape = tuple(operation.get_output_shape(0))
            yield StoredTensor(operation.get_friendly_name(), shape, kind in CODES, partial(_load, operation, kind, shape))


def _load(operation: Any, kind: str, shape: tuple[int, ...]) -> Array:
    import numpy as np

    data = np.asarray(operation.data)
    if kind not in (SIGNED, UNSIGNED):
        return data
    packed, count = data.reshape(-1).view(np.uint8), int(np.prod(shape))
    codes = np.stack((packed & 15, packed >> 4), axis=-1).reshape(-1)[:count].astype(np.int8)
    return (codes if kind == UNSIGNED else np.where(codes > 7, codes - 16, codes).astype(np.int8)).reshape(shape)
