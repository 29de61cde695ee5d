"""Stock networks for a reference: loaded by the stock classes, on a device while its memory suffices, then on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


def load_network(
    student: Student, role: str, cls: Any, module: torch.nn.Module, folders: Folders, device: str = CPU.device
) -> torch.nn.Module:
    """A stock network in float32: from the student's folder by its class itself, where the folder is all there is to it.

    Args:
        student: as it was loaded.
        role: of the network.
        cls: its stock class.
        module: the stock module on `meta`, filled where weights are random, changed by a LoRA, or too many for the memory.
        folders: the family's.
        device: where it runs.

    Raises:
        InputError: the stock class refuses what lies in the folder.
    """
    return_freed_memory()
    weights = student.components[role].weights
    if device == CPU.device and 4 * sum(math.prod(handle.shape) for handle in weights.values()) > WHOLE_BYTES:
        return stream_stock(module, weights, device)
    if student.folder is None or is_merged(weights):
        return materialize(module, weights, device=device)
    name, stem = folders[role]
    folder = student.folder / name
    variant = choose_variant(folder, stem, student.variant) or None
    typed = {"dtype" if cls.__module__.startswith("transformers.") else "torch_dtype": torch.float32}
    try:
        with hush():
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **typed)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval().to(device)
    return real
