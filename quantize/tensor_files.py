"""Tensors in the cache, with a hash of their values: what a disk damaged is measured again, not believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sprint_export.cache import write_cached

Tensors = Mapping[str, torch.Tensor]


def hash_tensors(tensors: Tensors) -> str:
    """sha256 over names and values."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        total.update(key.encode())
        total.update(tensors[key].contiguous().numpy().tobytes())
    return total.hexdigest()


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write one safetensors file into the cache; no tensor may share memory with another.

    Raises:
        MachineError: the cache cannot be written to, or its disk is full.
    """
    metadata = {"sha256": hash_tensors(tensors)}
    write_cached(path, lambda part: save_file(dict(tensors), part, metadata))


def load_tensors(path: Path) -> dict[str, torch.Tensor] | None:
    """What `save_tensors` wrote; None where it is not there, or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 safe_open is no dict
            digest = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError):
        return None
    return tensors if digest == hash_tensors(tensors) else None
