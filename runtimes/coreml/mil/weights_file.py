"""A weights/*.bin file: where each tensor lies is checked when the program is read, its bytes are read when an op asks.

At an entry's offset stand uint32 sentinel 0xDEADBEEF, uint32 type, uint64 bytes, uint64 data offset, then padding to 64 bytes.
coremltools' _BlobStorageReader unpacks the data, among them types of 1 to 6 bits (to one byte per element).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from coremltools.libmilstoragepython import _BlobStorageReader

from sprint_export.errors import BundleError

Array = npt.NDArray[Any]

SENTINEL = 0xDEADBEEF
METADATA = struct.Struct("<IIQQ")
READERS = {"float16": "read_fp16_data", "float32": "read_float_data"}  # the others are read_<dtype>_data
PACKED_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}


class WeightsFile:
    """One weights file of a package."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BundleError(f"{path} is missing, which holds the weights; export the student again")
        self._path = path
        self._size = path.stat().st_size
        self._reader: Any = None

    def find(self, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> Callable[[], Array]:
        """Check that the tensor is there, whole; what reads it.

        Raises:
            BundleError: the file ends before it, or something else lies there.
        """
        with self._path.open("rb") as file:
            file.seek(offset)
            head = file.read(METADATA.size)
        sentinel, _, size, start = METADATA.unpack(head) if len(head) == METADATA.size else (SENTINEL, 0, 0, self._size + 1)
        if start + size > self._size:
            raise BundleError(f"{self._path} is truncated at {self._size} bytes: {name} lies beyond; export the student again")
        bits = PACKED_BITS.get(dtype) or 8 * np.dtype(dtype).itemsize
        wanted = math.ceil(math.prod(shape) * bits / 8)
        if sentinel != SENTINEL or size != wanted:
            found = f"{size} bytes" if sentinel == SENTINEL else "something else"
            raise BundleError(
                f"{self._path} has {found} at {offset}, expected {wanted} bytes for {name}, {dtype} {list(shape)}; "
                "the weights are of another model: export the student again"
            )
        return partial(self._load, name, dtype, shape, offset)

    def _load(self, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> Array:
        try:
            self._reader = self._reader or _BlobStorageReader(str(self._path))
            flat = getattr(self._reader, READERS.get(dtype, f"read_{dtype}_data"))(offset)
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"{self._path} does not give {name}, {dtype} {list(shape)}: {error}") from error
        flat = flat.view(np.float16) if dtype == "float16" else flat
        whole: Array = flat.reshape(shape)
        return whole


def read_bits(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """A literal that is stored as bytes; elements below 8 bits are packed from the lowest bit up."""
    bits = PACKED_BITS.get(dtype)
    if bits is None:
        return np.frombuffer(data, np.dtype(dtype)).reshape(shape)
    return unpack_bits(np.frombuffer(data, np.uint8), bits, math.prod(shape), dtype == "int4").reshape(shape)


def unpack_bits(packed: Array, bits: int, count: int, signed: bool = False) -> Array:
    """[ceil(count * bits / 8)] bytes -> [count] uint8 (int8 where signed), lowest bit first."""
    if bits == 8:
        return packed[:count]
    each = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    values: Array = (each << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    return values.astype(np.int8) - ((values >> (bits - 1)) << bits).astype(np.int8) if signed else values
