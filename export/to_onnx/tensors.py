"""Torch tensors as onnx_ir tensors: lazily, in the graph's type, byte for byte."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import onnx_ir as ir
import torch

from sprint_export.export.narrow import check_fits, narrow
from sprint_export.weights import Handle

TORCH_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT8: torch.int8,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
}
SLICE = 1 << 24  # values that are cast or rounded together
FLOAT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
STORED_TYPES = {"int4": ir.DataType.INT4, "int8": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}  # by a format's name


class _FloatTensor(ir.LazyTensor):
    """A handle that loads, and casts to the graph's type, when its bytes are asked for; into a file slice after slice of rows."""

    def __init__(self, name: str, handle: Handle, dtype: ir.DataType) -> None:
        super().__init__(lambda: to_ir(handle.load(), dtype, name), dtype=dtype, shape=ir.Shape(handle.shape), name=name)
        self._handle = handle

    def tofile(self, file: Any) -> None:
        """Cast as a whole, a table of words in 16 bits would be there in float32 too."""
        value = self._handle.load()
        check_fits(value, TORCH_TYPES[self.dtype], str(self.name))
        rows = max(1, SLICE * len(value) // max(value.numel(), 1)) if value.ndim else 1
        for part in value.split(rows) if value.ndim else (value,):
            _hand_over(part.to(TORCH_TYPES[self.dtype]), self.dtype, str(self.name)).tofile(file)


def lazy_tensor(name: str, handle: Handle, dtype: ir.DataType) -> ir.LazyTensor:
    """A handle as an onnx_ir tensor in the graph's type."""
    return _FloatTensor(name, handle, dtype)


def to_ir(value: torch.Tensor, dtype: ir.DataType, name: str) -> ir.TensorProtocol:
    """Cast as torch does (round to nearest even) and hand the bytes over.

    Raises:
        InputError: a finite value becomes infinite in the graph's type.
    """
    if dtype == ir.DataType.INT4:  # torch has no such type
        return ir.Tensor(value.numpy().astype(ml_dtypes.int4), dtype=dtype, name=name)
    return _hand_over(narrow(value, TORCH_TYPES[dtype], name), dtype, name)


def _hand_over(cast: torch.Tensor, dtype: ir.DataType, name: str) -> ir.Tensor[Any]:
    cast = cast.contiguous()
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[cast.element_size()]
    array = cast.view(size).numpy() if cast.ndim else cast.reshape(1).view(size).numpy().reshape(())
    return ir.Tensor(array.view(dtype.numpy()), dtype=dtype, name=name)


def sizes(tensor: ir.TensorProtocol) -> list[int]:
    """A tensor's shape as plain ints; weights have no free axes."""
    return [int(size) for size in tensor.shape.numpy()]


def to_torch(tensor: ir.TensorProtocol) -> torch.Tensor:
    """A float tensor's values as float32."""
    array = tensor.numpy()
    if tensor.dtype == ir.DataType.BFLOAT16:
        return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16).float()
    return torch.from_numpy(array).float()
