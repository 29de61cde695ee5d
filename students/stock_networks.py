"""Stock networks for a reference: on a device while its memory suffices, then on the CPU; their calls are timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from sprint_export.compute import Compute, Place
from sprint_export.students.family import time_calls

STAGE = "PyTorch reference"  # of progress
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
