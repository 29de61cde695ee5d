"""Stock networks for a reference: loaded by the stock classes, on a device while its memory suffices, then on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from sprint_export.compute import CPU, Compute, Place
from sprint_export.errors import InputError
from sprint_export.freed_memory import return_freed_memory
from sprint_export.libraries import hush
from sprint_export.nouns.student import Student
from sprint_export.students.checkpoints import Folders, stream_stock
from sprint_export.students.family import time_calls
from sprint_export.students.lora import is_merged
from sprint_export.weights import choose_variant, materialize

STAGE = "PyTorch reference"  # of progress
WHOLE_BYTES = 4 << 30  # of float32 weights in the CPU's memory; a larger network's are read when they are needed
Result = TypeVar("Result")


class StockNetworks:
    """Networks by role that `make(device)` gives.

    Args:
        make: loads them onto a device.
        compute: where, at first.
        seconds: of each network's calls, by role; they are added.
        timed: which module's calls count as a network's, where not its own, e.g. an autoencoder's decoder.
    """

    def __init__(
        self,
        make: Callable[[str], Mapping[str, Any]],
        compute: Compute,
        seconds: dict[str, list[float]],
        timed: Callable[[str, Any], Any] = lambda _, network: network,
    ) -> None:
        self.place = Place(compute, STAGE)
        self.networks = self.place.attempt(lambda: make(self.place.compute.device))
        place = self.place  # a hook that held this object would be held by it, and neither be freed at once
        for role, network in self.networks.items():
            time_calls(timed(role, network), seconds.setdefault(role, []), lambda: place.compute.read_clock())

    def run(self, call: Callable[[], Result]) -> Result:
        """What a call of them gives."""

        def work() -> Result:
            with torch.no_grad(), self.place.compute.exact():
                return call()

        return self.place.attempt(work, *self.networks.values())


def open_network(folder: Path, cls: Any, **named: Any) -> torch.nn.Module:
    """A stock network of another program's folder, quantized or not, in float32 where it is not; from safetensors alone.

    Args:
        folder: with its config, which names a quantizer that the caller has checked.
        cls: its stock class; no class, module or pickle that the folder names is imported.
        named: what else the class takes.

    Raises:
        InputError: the class cannot load what lies in it.
    """
    try:
        with hush():
            network = cls.from_pretrained(folder, use_safetensors=True, local_files_only=True, **name_type(cls), **named)
    except Exception as error:  # the stock classes and their quantizers raise all kinds
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: {cls.__name__} cannot load it ({said}); expected safetensors and a config") from error
    real: torch.nn.Module = network.eval()
    return real


def name_type(cls: Any, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The type of a network's weights, as its stock class takes it."""
    return {"dtype" if cls.__module__.startswith("transformers.") else "torch_dtype": dtype}


def load_network(
    student: Student,
    role: str,
    cls: Any,
    module: torch.nn.Module,
    folders: Folders,
    device: str = CPU.device,
    dtype: torch.dtype | None = None,
) -> torch.nn.Module:
    """A stock network: from the student's folder by its class itself, where the folder is all there is to it.

    Args:
        student: as it was loaded.
        role: of the network.
        cls: its stock class.
        module: the stock module on `meta`, filled where weights are random, changed by a LoRA, or too many for the memory.
        folders: the family's.
        device: where it runs.
        dtype: of its weights, all of which are then in memory; None: float32, and those of large ones are read when they run.

    Raises:
        InputError: the stock class refuses what lies in the folder.
    """
    return_freed_memory()
    weights, kind = student.components[role].weights, dtype or torch.float32
    if dtype is None and device == CPU.device and 4 * sum(math.prod(handle.shape) for handle in weights.values()) > WHOLE_BYTES:
        return stream_stock(module, weights, device)
    if student.folder is None or is_merged(weights):
        return materialize(module, weights, kind, device)
    name, stem = folders[role]
    folder = student.folder / name
    variant = choose_variant(folder, stem, student.variant) or None
    typed = name_type(cls, kind)
    try:
        with hush():
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **typed)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval().to(device)
    return real
