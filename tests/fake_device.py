"""A device that is not there: tensors that lie on it are marked, and torch refuses what it would refuse on a GPU.

Within `fake_device()` the name "cuda" is a device whose tensors are the CPU's, of class OnDevice. Two tensors of which one lies
there and the other, unless it is a single number, does not are an error, and so is `numpy()` of one. What `.to`, `.cpu` and
factories with `device=` give lies where they say. Arithmetic is the CPU's, so results must be those of the CPU to the last bit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from sprint_export.compute import Compute

GIGABYTE = 1 << 30
FAKE = torch.device("cuda")
MAY_MIX = ("__getitem__", "__setitem__", "copy_", "_has_compatible_shallow_copy_type")  # an index, and copies between devices

TRUSTED = f"{os.sep}transformers{os.sep}"  # its masks are made under vmap, which loses the class


class OnDevice(torch.Tensor):
    """A tensor that lies on the device."""


class _Mode(TorchFunctionMode):
    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        here = any(isinstance(value, OnDevice) for value in tensors)
        if function == torch.Tensor.device.__get__:
            return FAKE if here else function(*args)
        if name == "_parse_to":
            return function(*args, **kwargs)
        if here and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if function == torch.Tensor.data.__set__:  # type: ignore[attr-defined]
            target, value = args
            with torch._C.DisableTorchFunctionSubclass():
                function(target, value)
            is_parameter = isinstance(target, torch.nn.Parameter)
            target.__class__ = torch.nn.Parameter if is_parameter and type(value) is not OnDevice else type(value)
            target._is_param = is_parameter
            return None
        asked = _find_device(name, args, kwargs)
        if here and asked is None and name not in MAY_MIX and TRUSTED not in sys._getframe(1).f_code.co_filename:
            away = [tuple(value.shape) for value in tensors if not isinstance(value, OnDevice) and value.dim()]
            if away:
                raise RuntimeError(f"{name}: expected all tensors on one device; {away} lie on the CPU")
        args, kwargs = tree_map(_rename, (args, kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)
        lands = here if asked is None else asked
        if lands and any(isinstance(v, torch.Tensor) and v.nelement() > self.largest for v in tree_flatten(result)[0]):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tree_map(lambda value: _mark(value, lands), result)


def _find_device(name: str, args: Any, kwargs: Any) -> bool | None:
    """Whether a call says that its result lies on the device, or elsewhere; None where it says nothing."""
    if name == "cpu":
        return False
    said = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.device)]
    said += [torch.device(value) for value in (kwargs.get("device"), *args[1:2]) if name != "einsum" and value in ("cuda", "cpu")]
    return said[0].type == "cuda" if said else None


def _rename(value: Any) -> Any:
    return "cpu" if value == "cuda" or (isinstance(value, torch.device) and value.type == "cuda") else value


def _mark(value: Any, lands: bool) -> Any:
    if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice) == lands:
        return value
    return value.as_subclass(OnDevice if lands else torch.Tensor)


@contextlib.contextmanager
def fake_device(bytes_free: int = GIGABYTE, largest: int = GIGABYTE) -> Iterator[tuple[Compute, list[str]]]:
    """The device for the time of the block, and what is said of it.

    Args:
        bytes_free: what it says of its memory.
        largest: values of a tensor that it still holds.
    """
    said: list[str] = []

    class Fake(Compute):
        def count_free(self) -> int:
            return bytes_free if self.device == "cuda" else 0

        def read_clock(self) -> float:
            return time.perf_counter()

    with _Mode(largest):
        yield Fake("cuda", "Fake GPU", said.append), said
