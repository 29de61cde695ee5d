"""Constants as torch tensors, compressed ones decompressed: Apple's constexpr_* formulas, applied as deep as they are nested.

    constexpr_affine_dequantize           scale * (data - zero_point), scale and zero_point along one axis (iOS 16)
    constexpr_blockwise_shift_scale       scale[b] * (data - offset[b]); axis a has data.shape[a] / scale.shape[a] per block
    constexpr_lut_to_dense                lut[b, index]; with vectors, the VECTOR_SIZE entries follow each other on vector_axis
    constexpr_sparse_to_dense             data where the mask is 1, in row-major order, else 0
    constexpr_lut_to_sparse               (mask, values): lut_to_dense of the sparse indices, its entries under the mask
    constexpr_sparse_blockwise_shift_scale  (mask, values): shift_scale of the sparse data, its entries under the mask
    constexpr_cast                        float16 to float32

An operand may itself be compressed (a palette of int8 entries, a scale over a palette). Each result is rounded to its declared
type. Nothing is kept: a weight is decompressed when an op wants it, by rows, so that beside the result (16 bits where the
program is 16-bit) only a piece of about CHUNK elements exists in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sprint_export.errors import BundleError, RefusedError
from sprint_export.runtimes.coreml.mil.program import Op, Program, Value
from sprint_export.runtimes.coreml.mil.weights_file import unpack_bits

CHUNK = 1 << 24  # elements

FLOATS = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
# What holds a MIL integer here: exact for every type, and an index for torch.
INTEGERS = {"int64": torch.int64, "int32": torch.int32, "uint32": torch.int64, "int16": torch.int32, "uint16": torch.int32}
BYTES = {"int8": torch.int8, "int4": torch.int8, "bool": torch.bool}  # other types are uint8


def torch_dtype(dtype: str) -> torch.dtype:
    """The torch type that holds a MIL type; unsigned types below 8 bits are held as uint8."""
    return FLOATS.get(dtype) or INTEGERS.get(dtype) or BYTES.get(dtype) or torch.uint8


def read_constant(program: Program, name: str) -> Tensor | str:
    """A constant's value in its declared type, decompressed where it is compressed.

    Raises:
        BundleError: what the file holds does not fit the declared type.
        RefusedError: a compressed form that the checker does not cover.
    """
    if name in program.compressed:
        return _decompress(program, name)
    constant = program.constants[name]
    array = constant.load()
    if constant.value.dtype == "string":
        return str(array.item())
    array = array if array.flags.writeable else array.copy()
    return torch.from_numpy(np.atleast_1d(array)).reshape(array.shape).to(torch_dtype(constant.value.dtype))


def feeding_weights(program: Program, name: str) -> tuple[str, ...]:
    """The constants in the weights file that a constant is made of: itself, or the parts of a compressed one."""
    if name in program.compressed:
        parts = [feeding_weights(program, part) for part in program.compressed[name].operands]
        return tuple(dict.fromkeys(weight for part in parts for weight in part))
    return (name,) if name in program.constants and program.constants[name].on_disk else ()


def _decompress(program: Program, name: str) -> Tensor:
    op = program.compressed[name]
    if op.type not in DECOMPRESS:
        known = ", ".join(sorted(DECOMPRESS))
        raise RefusedError(f"{program.package}: the checker does not cover {op.type} (op {op.name!r}); it covers: {known}")
    parts = {parameter: read_constant(program, names[0]) for parameter, names in op.inputs.items()}
    index, value = next((i, value) for i, value in enumerate(op.outputs) if value.name == name)
    try:
        result = DECOMPRESS[op.type](parts, torch_dtype(op.outputs[-1].dtype))[index]
    except (RuntimeError, IndexError, ValueError, KeyError) as error:
        raise BundleError(f"{program.package}: op {op.name!r} ({op.type}) does not decompress: {error}") from error
    return check_shape(program, op, value, result).to(torch_dtype(value.dtype))


def check_shape(program: Program, op: Op, value: Value, found: Tensor) -> Tensor:
    """The tensor, if it has the shape the file declares.

    Raises:
        BundleError: it has another.
    """
    if tuple(found.shape) != value.shape:
        raise BundleError(
            f"{program.package}: op {op.name!r} ({op.type}) gives {value.name!r} with shape {list(found.shape)}, "
            f"the package declares {list(value.shape)}; export the student again"
        )
    return found


Parts = dict[str, Any]  # parameter -> tensor, or text


def _affine(parts: Parts, dtype: torch.dtype) -> tuple[Tensor]:
    data, axis = parts["quantized_data"], int(parts["axis"])
    shape = [1] * data.ndim
    shape[axis] = -1
    scale, offset = (parts[name].reshape(shape if parts[name].ndim else [1] * data.ndim) for name in ("scale", "zero_point"))
    return (shift_scale(data, scale, offset.expand(scale.shape) if offset.numel() == 1 else offset, dtype),)


def _shift_scale(parts: Parts, dtype: torch.dtype) -> tuple[Tensor]:
    return (shift_scale(parts["data"], parts["scale"], parts.get("offset"), dtype),)


def _lut(parts: Parts, dtype: torch.dtype) -> tuple[Tensor]:
    if "shape" in parts:  # iOS 16: one palette, indices packed in bytes
        shape, lut = parts["shape"].tolist(), parts["lut"]
        bits = int(lut.numel()).bit_length() - 1
        flat = torch.from_numpy(unpack_bits(parts["indices"].numpy(), bits, int(np.prod(shape))))
        return (look_up(flat.reshape(shape), lut.reshape([1] * len(shape) + [-1, 1]), 0, dtype),)
    return (look_up(parts["indices"], parts["lut"], int(parts.get("vector_axis", 0)), dtype),)


def _sparse(parts: Parts, dtype: torch.dtype) -> tuple[Tensor]:
    if "shape" in parts:  # iOS 16: the mask packed in bytes
        shape = parts["shape"].tolist()
        mask = torch.from_numpy(unpack_bits(parts["mask"].numpy(), 1, int(np.prod(shape)))).reshape(shape)
        return (fill_mask(mask, parts["nonzero_data"]),)
    return (fill_mask(parts["mask"], parts["nonzero_data"]),)


def _lut_to_sparse(parts: Parts, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    mask, lut = parts["indices_mask"], parts["lut"]
    axis = int(parts.get("vector_axis", 0))
    dense = look_up(fill_mask(mask, parts["indices_nonzero_data"]), lut, axis, dtype)
    mask = mask.repeat_interleave(lut.shape[-1], axis)
    return mask, dense[mask != 0]


def _sparse_shift_scale(parts: Parts, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    mask = parts["data_mask"]
    dense = shift_scale(fill_mask(mask, parts["nonzero_data"]), parts["scale"], parts.get("offset"), dtype)
    return mask, dense[mask != 0]


def _cast(parts: Parts, dtype: torch.dtype) -> tuple[Tensor]:
    return (parts["source_val"].to(dtype),)


DECOMPRESS: dict[str, Callable[[Parts, torch.dtype], tuple[Tensor, ...]]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "constexpr_lut_to_dense": _lut,
    "constexpr_sparse_to_dense": _sparse,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_cast": _cast,
}


def shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None, dtype: torch.dtype) -> Tensor:
    """scale * (data - offset), each scale for one block of data: data [A, B], scale [A / a, B / b]."""

    def combine(rows: Tensor, scale: Tensor, *offsets: Tensor) -> Tensor:
        blocks, spread = _blocks(rows.shape, scale.shape)
        values = rows.float().reshape(blocks)
        for offset in offsets:
            values = values - offset.float().reshape(spread)
        return (values * scale.float().reshape(spread)).reshape(rows.shape)

    return _by_rows(data, (scale,) if offset is None else (scale, offset), combine, dtype)


def look_up(indices: Tensor, lut: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """lut[block of the index, index]: indices [A, B], lut [A / a, B / b, palette, vector]; vectors are laid along `axis`."""
    groups, palette, vector = lut.shape[:-2], lut.shape[-2], lut.shape[-1]
    axis = axis % indices.ndim

    def combine(rows: Tensor, lut: Tensor) -> Tensor:
        blocks, spread = _blocks(rows.shape, lut.shape[:-2])
        first = torch.arange(lut.shape[:-2].numel()).reshape(spread) * palette
        places = (rows.long().reshape(blocks) + first).reshape(rows.shape)
        found = lut.reshape(-1, vector)[places]  # [A, B, vector]
        return found.movedim(-1, axis + 1).flatten(axis, axis + 1)

    if indices.numel() and int(indices.max()) >= palette:
        raise ValueError(f"an index of {int(indices.max())} into a palette of {palette}")
    if len(groups) != indices.ndim:
        raise ValueError(f"a palette of {list(lut.shape)} for indices of {list(indices.shape)}")
    return _by_rows(indices, (lut,), combine, dtype)


def fill_mask(mask: Tensor, values: Tensor) -> Tensor:
    """A dense tensor of the mask's shape: the values where it is 1, else 0."""
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[mask != 0] = values
    return dense


def _blocks(shape: torch.Size, groups: torch.Size) -> tuple[list[int], list[int]]:
    """[A, B] in groups [G, H] -> data as [G, A / G, H, B / H] and the groups' values as [G, 1, H, 1]."""
    if len(shape) != len(groups) or any(size % group for size, group in zip(shape, groups, strict=True)):
        raise ValueError(f"data of {list(shape)} in blocks of {list(groups)}")
    data = [size for whole, group in zip(shape, groups, strict=True) for size in (group, whole // group)]
    return data, [size for group in groups for size in (group, 1)]


def _by_rows(data: Tensor, tables: tuple[Tensor, ...], combine: Callable[..., Tensor], dtype: torch.dtype) -> Tensor:
    """`combine(data, *tables)` in pieces of about CHUNK elements along axis 0, in the given type."""
    groups = tables[0].shape[0]
    if data.numel() <= CHUNK or data.shape[0] % groups:
        return combine(data, *tables).to(dtype)
    if groups == 1:  # all rows share the tables: any cut will do
        pieces = data.split(max(1, CHUNK * data.shape[0] // data.numel()))
        return torch.cat([combine(piece, *tables).to(dtype) for piece in pieces])
    at_once = max(1, CHUNK * groups // data.numel())
    cuts = zip(data.split(at_once * (data.shape[0] // groups)), *(table.split(at_once) for table in tables), strict=True)
    return torch.cat([combine(*piece).to(dtype) for piece in cuts])
