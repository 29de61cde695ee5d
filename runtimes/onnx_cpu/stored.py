"""Initializers of an ONNX graph as tensors that can be compared with a student's: what rules of the exporter packed is undone.

    <scale>.column, <scale>.single   behind and in a convolution (rules/scale_after_conv.py): their product
    <codes>.packed uint8 [N, g, h]   two codes + 8 a byte, the even ones in the low halves (rules/four_bit_matmuls.py)
    <codes>.packed int8 [V, h]       the first half of a row in the low halves (rules/gather_rows.py)
Bytes are mapped, not read, until a tensor is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError
from sprint_export.libraries import require
from sprint_export.runtimes.interfaces import name_first_line
from sprint_export.runtimes.stored_tensors import StoredTensor

if TYPE_CHECKING:
    from sprint_export.session import Array

CODES = ("INT4", "UINT4", "INT8", "UINT8", "FLOAT8E4M3FN", "FLOAT8E5M2")
FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
HALVES = ("INT4", "UINT4")  # two values a byte
MOST_VALUES, MOST_AXES, MOST_DIGITS = 1 << 40, 8, 19  # of a weight; of an offset in a file
COLUMN, SINGLE, PACKED = ".column", ".single", ".packed"


def list_onnx_tensors(graph: Path) -> Iterator[StoredTensor]:
    """Every initializer that is a number or a code, in the graph's order; integers that are sizes and axes are left out.

    Raises:
        BundleError: the graph cannot be read, or says that a weight lies where it cannot.
    """
    onnx: Any = require("onnx", "export")
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception as error:  # protobuf's own, several kinds
        raise BundleError(f"{graph} cannot be read as an ONNX graph ({name_first_line(error)})") from error
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {number: name for name, number in onnx.TensorProto.DataType.items() if name in (*CODES, *FLOATS)}
    for name, tensor in tensors.items():
        kind = known.get(tensor.data_type)  # a number that is no type's is none of these
        if kind is not None and not _is_factor(name, tensors):
            yield _describe(onnx, graph, tensor, tensors.get(name.partition(COLUMN)[0] + SINGLE), kind in CODES)


def _is_factor(name: str, tensors: Mapping[str, Any]) -> bool:
    """Whether it is told together with the column that it is multiplied by."""
    column = name.removesuffix(SINGLE) + COLUMN
    return name.endswith(SINGLE) and any(other.startswith(column) for other in tensors)


def _describe(onnx: Any, graph: Path, tensor: Any, single: Any, is_code: bool) -> StoredTensor:
    place, name, shape = _find_place(graph, tensor), tensor.name, tuple(tensor.dims)
    if len(shape) > MOST_AXES or any(size < 0 for size in shape) or math.prod(shape) > MOST_VALUES:
        raise BundleError(f"{graph}: the weight {name!r} has the shape {shape[:MOST_AXES]}, which no weight has; export again")
    load = partial(_load, onnx, graph, tensor)
    if COLUMN in name and single is not None:
        return StoredTensor(name, shape, is_code, partial(_multiply, graph, load, partial(_load, onnx, graph, single)))
    if name.endswith(PACKED) and is_code and len(shape) > 1:
        is_product = len(shape) == len("NKB")
        whole = (shape[0], 2 * shape[1] * shape[2]) if is_product else (*shape[:-1], 2 * shape[-1])
        return StoredTensor(name, whole, is_code, lambda: (_unpack_product if is_product else _unpack_table)(load()), place)
    return StoredTensor(name, shape, is_code, load, place)


def _multiply(graph: Path, load: Callable[[], Array], load_factor: Callable[[], Array]) -> Array:
    value, factor = load().astype("float32"), load_factor().astype("float32")
    try:
        product: Array = value * factor
    except ValueError as error:
        raise BundleError(f"{graph}: factors of {value.shape} and {factor.shape} have no product; export again") from error
    return product


def _find_place(graph: Path, tensor: Any) -> tuple[str, int] | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries:
        return None
    name, offset = entries.get("location", ""), entries.get("offset", "0")
    is_place = offset.isascii() and offset.isdecimal() and len(offset) <= MOST_DIGITS
    if name != Path(name).name or not (graph.parent / name).is_file() or not is_place:
        raise BundleError(f"{graph}: the weight {tensor.name!r} is said to lie in {name!r}, no file beside it; export again")
    return name, int(offset)


def _load(onnx: Any, graph: Path, tensor: Any) -> Array:
    import numpy as np

    place = _find_place(graph, tensor)
    if place is None:
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:  # fewer bytes than its shape says, or in a field of another type
            said = name_first_line(error)
            raise BundleError(f"{graph}: the weight {tensor.name!r} is damaged ({said}); export the student again") from error
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    shape, count = tuple(tensor.dims), int(np.prod(tuple(tensor.dims), dtype=np.int64))
    is_halved = onnx.TensorProto.DataType.Name(tensor.data_type) in HALVES
    file, offset = graph.parent / place[0], place[1]
    size = -(-count // 2) if is_halved else count * dtype.itemsize
    if offset + size > file.stat().st_size:
        raise BundleError(f"{file} ends before the weight {tensor.name!r} does; copy the bundle or export the student again")
    if not size:
        return np.zeros(shape, dtype)
    data = np.memmap(file, np.uint8, "r", offset, (size,))
    if is_halved:
        whole = onnx.TensorProto(data_type=tensor.data_type, dims=shape, raw_data=data.tobytes())
        return np.asarray(onnx.numpy_helper.to_array(whole))
    values: Array = data.view(dtype).reshape(shape)
    return values


def _unpack_product(packed: Array) -> Array:
    """uint8 [N, K / g, g / 2] -> int8 [N, K], -8 to 7."""
    import numpy as np

    codes = np.stack((packed & 15, packed >> 4), axis=-1).astype(np.int8) - 8
    return codes.reshape(len(packed), -1)


def _unpack_table(packed: Array) -> Array:
    """int8 [V, h] -> int8 [V, 2 h], -8 to 7."""
    import numpy as np

    high = packed >> 4  # rounds down, as the graph does
    low = packed.astype(np.int16) - 16 * high.astype(np.int16) - 8
    return np.concatenate((low.astype(np.int8), high), axis=-1)
