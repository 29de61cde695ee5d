"""Lazy weights: a mapping name -> handle, where a handle knows shape and dtype and loads one tensor when asked.

Folding and quantizing wrap handles in handles; the writer pulls one tensor at a time. Memory is then the largest tensor,
not the model. Checkpoints are read through safetensors' memory map and nothing is ever unpickled.
"""

from __future__ import annotations

import copy
import ctypes
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from sprint_export.errors import InputError

M_MMAP_THRESHOLD = -3  # malloc.h
LARGEST_WEIGHT = 1e18  # norms square what weights make, and float32 holds 3e38
LARGEST_INDEX = 64 << 20  # bytes
BLOCK = (1 << 20) + 7  # values; a prime number, so that no two rows of a weight are alike


def widen_dtype(dtype: torch.dtype) -> torch.dtype:
    """At least float32, in which weights are folded and long sums are made; float64 stays what it is."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Handle(Protocol):
    """A tensor that is not in memory yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def load(self) -> torch.Tensor:
        """The tensor itself, on the CPU; a fresh or memory-mapped copy each time."""
        ...


def check_numbers(path: Path, key: str, tensor: torch.Tensor) -> None:
    """Whether a weight that was read can be computed with.

    Raises:
        InputError: it holds NaN, infinity or numbers beyond LARGEST_WEIGHT.
    """
    if not (tensor.is_floating_point() and tensor.numel()):
        return
    low, high = tensor.aminmax()  # NaN where one is; magnitudes would be another copy
    largest = max(-low.item(), high.item())
    if not math.isfinite(largest):
        raise InputError(f"{path}: tensor {key!r} holds NaN or infinite values; the checkpoint is damaged")
    if largest > LARGEST_WEIGHT:
        raise InputError(
            f"{path}: tensor {key!r} holds {largest:.1e}, expected at most {LARGEST_WEIGHT:.0e}: float32 "
            "cannot hold its square. The checkpoint is damaged"
        )


@dataclass(frozen=True)
class FileHandle:
    """A tensor of a safetensors file."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def load(self) -> torch.Tensor:
        """Read this tensor only.

        Raises:
            InputError: the file changed or is damaged, or the tensor holds NaN, infinity or numbers beyond LARGEST_WEIGHT.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(self.key)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.path}: cannot read tensor {self.key!r} ({error}); download the file again") from error
        check_numbers(self.path, self.key, tensor)
        return tensor


@dataclass(frozen=True)
class LazyHandle:
    """A tensor that a function computes; the function may load other handles."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    compute: Callable[[], torch.Tensor]

    def load(self) -> torch.Tensor:
        """Compute it."""
        return self.compute()


def free_large_tensors_at_once() -> None:
    """Have glibc give tensors of a megabyte and more back to the system when they are freed.

    By itself it raises its bound for that to 32 MB as it goes; weights of that size then leave holes between small tensors that
    stay, and a network that is streamed takes as much memory as one that is not. Elsewhere than on glibc it does nothing.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 1 << 20)


def constant(tensor: torch.Tensor) -> LazyHandle:
    """A handle to a (small) tensor that is in memory already."""
    return LazyHandle(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def random_handle(name: str, shape: tuple[int, ...], std: float, mean: float = 0.0, seed: int = 0) -> LazyHandle:
    """Seeded normal values, the same at every load: a full-size student without a file."""

    def compute() -> torch.Tensor:
        mix = sum((i + 1) * byte for i, byte in enumerate(name.encode())) + 7919 * seed
        values = torch.randn(shape, generator=torch.Generator().manual_seed(mix))
        return values.mul_(std).add_(mean)  # in place: a table of words in float32 has 2.4 GB

    return LazyHandle(shape, torch.float32, compute)


def repeated_handle(name: str, shape: tuple[int, ...], std: float, mean: float = 0.0, seed: int = 0) -> LazyHandle:
    """As `random_handle`, in bfloat16 and from BLOCK values that are repeated: for tensors of gigabytes."""
    count = math.prod(shape)
    block = random_handle(name, (min(count, BLOCK),), std, mean, seed)

    def compute() -> torch.Tensor:
        return block.load().bfloat16().repeat(-(-count // BLOCK))[:count].reshape(shape)

    return LazyHandle(shape, torch.bfloat16, compute)


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_safetensors(folder: Path, stem: str, variant: str | None = None, says_format: bool = False) -> dict[str, Handle]:
    """Handles of `<stem>.safetensors` or of the shards its index names; of a variant's, as `choose_variant` says.

    Args:
        folder: of one network.
        stem: of its weights' names.
        variant: as in `choose_variant`.
        says_format: whether the files' metadata must say that they are PyTorch's, as transformers wants it.

    Raises:
        InputError: no such file, a shard is missing, or a file (or the index) is truncated or damaged.
    """
    handles: dict[str, Handle] = {}
    for path in find_weights(folder, stem, variant):
        more = open_file(path, says_format)
        twice = sorted(set(more) & set(handles))
        if twice:
            raise InputError(f"{path}: tensor {twice[0]!r} is in another shard too; download the files again")
        handles |= more
    return handles


def choose_variant(folder: Path, stem: str, wanted: str | None = None) -> str:
    """Which of the weights in a folder: "" for `<stem>.safetensors`, "fp16" for `<stem>.fp16.safetensors`; shards alike.

    Args:
        folder: of one network.
        stem: of its weights' names.
        wanted: a variant's name; None takes the plain weights, or the variant that is alone.

    Raises:
        InputError: there are no safetensors weights, not the wanted ones, or several variants and none that is plain.
    """
    single, index = (
        re.compile(re.escape(stem) + form) for form in (r"(?:\.(\w+))?\.safetensors", r"\.safetensors\.index(?:\.(\w+))?\.json")
    )
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = {match[1] or "" for name in names for form in (single, index) if (match := form.fullmatch(name))}
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and ("" in found or len(found) == 1):
        return "" if "" in found else found.pop()
    if found:
        listed = ", ".join(sorted(name or "(plain)" for name in found))
        said = "several" if wanted is None else f"no variant {wanted!r}"
        raise InputError(f"{folder} has {said} of {stem}.safetensors; choose with --variant from: {listed}")
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    raise InputError(
        f"no {stem}.safetensors (or its .index.json) in {folder}; expected a diffusers folder with safetensors weights "
        f"({', '.join(pickles[:3]) or 'pickled .bin files'}: pickles can hold code and are not read)"
    )


def find_weights(folder: Path, stem: str, variant: str | None = None) -> list[Path]:
    """The files that hold a network's weights.

    Raises:
        InputError: as `choose_variant`; or an index is damaged, or lies beside a single file.
    """
    chosen = choose_variant(folder, stem, variant)
    dotted = f".{chosen}" if chosen else ""
    single, index = folder / f"{stem}{dotted}.safetensors", folder / f"{stem}.safetensors.index{dotted}.json"
    if not index.is_file():
        return [single]
    if single.exists():
        raise InputError(f"{folder} has both {single.name} and {index.name}; expected one set of weights: remove the other")
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError(f"{index.stat().st_size} bytes")
        value = json.loads(index.read_text("utf-8"))
        names = sorted(set(value["weight_map"].values()))
        if not isinstance(value["metadata"], dict) or any(Path(name).name != name for name in names):
            raise ValueError("metadata is no object, or a name is no file's name")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise InputError(
            f"{index} is damaged ({error!r}), expected metadata and a weight_map of file names; download it again"
        ) from error
    return [folder / name for name in names]


def open_file(path: Path, says_format: bool = False) -> dict[str, Handle]:
    """Handles of one safetensors file.

    Raises:
        InputError: it is missing, truncated or damaged, holds a type of numbers that is not read, or does not say that it is
            PyTorch's where it must.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} is missing although the index names it; download it again")
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
            if says_format and found != "pt":
                raise InputError(f"{path}: its metadata has format={found!r}, expected 'pt'; save it with save_pretrained again")
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 safe_open is no dict
            return {key: FileHandle(path, key, tuple(s.get_shape()), _DTYPES[s.get_dtype()]) for key, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); download it again") from error
    except KeyError as error:
        raise InputError(f"{path} holds dtype {error}, expected one of {sorted(_DTYPES)}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """What stands in a safetensors file's header beside its tensors."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def check_fit(module: torch.nn.Module, handles: Mapping[str, Handle], where: str, ignore: Iterable[str] = ()) -> None:
    """Refuse a checkpoint whose names, shapes or kinds of number do not fit the module its config describes.

    Raises:
        InputError: a weight is missing, unexpected (outside the `ignore` prefixes), of another shape, or of integers where the
            module has real numbers.
    """
    state = module.state_dict()
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(set(state) & set(handles)):
        if state[name].is_floating_point() and not handles[name].dtype.is_floating_point:
            raise InputError(
                f"{where}: {name} holds {str(handles[name].dtype).removeprefix('torch.')}, expected a real type (float32, "
                "float16, bfloat16 or float64): a checkpoint that a tool quantized is not read; take the one it was made from"
            )
    missing = sorted(set(wanted) - set(handles))
    extra = sorted(name for name in set(handles) - set(wanted) if not name.startswith(tuple(ignore)))
    wrong = sorted(name for name in set(wanted) & set(handles) if wanted[name] != handles[name].shape)
    if not (missing or extra or wrong):
        return
    found = []
    if wrong:
        found.append(
            f"{wrong[0]} has shape {handles[wrong[0]].shape} where the config says {wanted[wrong[0]]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        )
    for label, names in (("missing", missing), ("unexpected", extra)):
        if names:
            found.append(f"{len(names)} {label}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
    raise InputError(
        f"{where}: the config does not fit its weights: {'; '.join(found)}. Check that config.json and the "
        "safetensors belong to the same model"
    )


def materialize(
    module: torch.nn.Module,
    handles: Mapping[str, Handle],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> torch.nn.Module:
    """Put real values into a copy of a meta module: for calibration and reference runs, in `dtype`, each on `device` at once.

    Parameters and buffers that have no handle stay on `meta`, so using one fails loudly; those that have values keep them.
    """
    real = copy.deepcopy(module)
    for name, old in [*real.named_parameters(), *real.named_buffers()]:
        if name not in handles and old.is_meta:
            continue
        value = handles[name].load() if name in handles else old.detach()
        if name in handles and value.is_floating_point():
            value = value.to(dtype)
        owner = real.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        value = value.contiguous().to(device)
        if isinstance(old, torch.nn.Parameter):
            owner._parameters[leaf] = torch.nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[leaf] = value
    return real.eval()
