"""What torch.save wrote, read lazily and safely: `torch.load(weights_only=True, mmap=True)`, one tensor at a time.

Such a file is a pickle beside the tensors' bytes. The pickle may name tensors and plain containers only; of the state of random
number generators, which trainers save too, NumPy's four names are let through, to a class that does nothing: no array is made.
Pages of a mapping count as this process's memory once they are read, so a mapping is given up after MAPPED_BYTES and made anew.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.weights import Handle, check_numbers

MAPPED_BYTES = 256 << 20
PICKLE = "data.pkl"  # in a checkpoint, beside its tensors' bytes
MOST_PICKLE = 16 << 20  # bytes of it: names and shapes; each may become a list of 64 bytes
_FORBIDDEN = re.compile(r"GLOBAL (\S+)|reduce for unrecognized function (.+)")


class Unread:
    """What stands for a NumPy array or type of a checkpoint."""

    def __init__(self, *_: Any) -> None:
        """Take and drop what the array is made of."""

    def __setstate__(self, state: Any) -> None:
        """Drop its bytes."""


ARRAY_NAMES = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")


def read_pickle(path: Path) -> Any:
    """The value that torch.save was given; its tensors are mapped from the file, nothing of them is in memory yet.

    Raises:
        InputError: it is no such file, truncated, of torch's old format, or names anything but tensors and containers.
    """
    check_archive(path)
    try:
        with hush(), torch.serialization.safe_globals([(Unread, name) for name in ARRAY_NAMES]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a crafted pickle makes torch raise all kinds
        text = " ".join(str(error).split())
        if forbidden := _FORBIDDEN.search(text):
            raise InputError(
                f"{path} names {forbidden[1] or forbidden[2]}, expected tensors only: it may hold code, none of which was run; "
                "save the state_dict alone with torch.save"
            ) from error
        said = "torch's format of before 1.6: load and save it again" if "_use_new_zipfile" in text else text[:200]
        raise InputError(f"{path} cannot be read as a checkpoint of torch.save ({said}); download it again") from error


def check_archive(path: Path) -> None:
    """Refuse an archive that says much in few bytes: torch unpacks its pickle before it looks at it.

    Raises:
        InputError: a file in it is compressed, which torch.save never does, or the pickle is larger than names and shapes are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile):  # no archive: torch says so in its own words
        return
    packed = next((each.filename for each in files if each.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise InputError(
            f"{path}: {packed[:200]!r} in it is compressed, which torch.save never does; save it with torch.save again"
        )
    size = max((each.file_size for each in files if each.filename.rpartition("/")[2] == PICKLE), default=0)
    if size > MOST_PICKLE:
        raise InputError(f"{path}: its {PICKLE} has {size:,} bytes, expected at most {MOST_PICKLE:,}; save the state_dict alone")


def find_tensors(value: Any, key: str) -> Mapping[str, torch.Tensor]:
    """The dictionary under a key, or the whole where that is empty; an empty one where there is none."""
    found = value.get(key) if key and isinstance(value, dict) else value
    return found if isinstance(found, dict) else {}


@dataclass
class TorchFile:
    """A checkpoint's dictionary of tensors under `key`, or the whole of it where `key` is empty."""

    path: Path
    key: str
    _mapped: Mapping[str, torch.Tensor] | None = None
    _read_bytes: int = 0

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped.

        Raises:
            InputError: as `read_pickle`; or the file has changed, and it is not there.
        """
        if self._mapped is None or self._read_bytes > MAPPED_BYTES:
            self._mapped, self._read_bytes = None, 0  # the old one goes first
            self._mapped = find_tensors(read_pickle(self.path), self.key)
        tensor = self._mapped.get(name)
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{self.path}: tensor {name!r} was there and is no more; the file has changed, start again")
        self._read_bytes += tensor.numel() * tensor.element_size()
        return tensor


@dataclass(frozen=True)
class TorchHandle:
    """A tensor of a TorchFile."""

    file: TorchFile = field(compare=False)
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def load(self) -> torch.Tensor:
        """Read this tensor only.

        Raises:
            InputError: the file has changed, or the tensor holds NaN, infinity or numbers beyond LARGEST_WEIGHT.
        """
        tensor = self.file.read(self.key)
        if (tuple(tensor.shape), tensor.dtype) != (self.shape, self.dtype):
            raise InputError(
                f"{self.file.path}: tensor {self.key!r} has another shape than before; the file has changed, start again"
            )
        check_numbers(self.file.path, self.key, tensor)
        return tensor


def open_torch_file(path: Path, key: str) -> dict[str, Handle]:
    """Handles of the tensors under a key of the dictionary that was saved; of the dictionary itself where it has no such key.

    Raises:
        InputError: as `read_pickle`; or what is there is no dictionary of ordinary tensors.
    """
    value = read_pickle(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, expected a dictionary with {key}")
    inner = key if key in value else ""
    tensors = find_tensors(value, inner)
    odd = [str(name) for name, each in tensors.items() if not _is_plain(name, each)]
    if odd or not tensors:
        found = f"{odd[0]} is no ordinary tensor" if odd else "there are no tensors"
        raise InputError(
            f"{path}: {f'in {inner} ' if inner else ''}{found}; expected a dictionary of weights under {key}, found: "
            f"{', '.join(map(str, list(value)[:8])) or 'nothing'}"
        )
    file = TorchFile(path, inner)
    return {name: TorchHandle(file, name, tuple(each.shape), each.dtype) for name, each in tensors.items()}


def _is_plain(name: object, value: object) -> bool:
    """Whether a value is a dense tensor that has all its numbers in the file: a view may repeat one of them a billion times."""
    if not (isinstance(name, str) and isinstance(value, torch.Tensor)) or value.layout != torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
