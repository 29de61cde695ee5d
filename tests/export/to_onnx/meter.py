"""Who loads which weight while a graph is made, and how many are in memory at once."""

from __future__ import annotations

import dataclasses
import weakref

import torch

from sprint_export.nouns.student import Component
from sprint_export.weights import Handle, LazyHandle


class Meter:
    """Hands out weights as fresh arrays and counts how many are alive."""

    def __init__(self) -> None:
        self.live = self.peak = 0
        self.loads: list[tuple[str, int]] = []

    def wrap(self, name: str, handle: Handle) -> Handle:
        def compute() -> torch.Tensor:
            array = handle.load().numpy().copy()  # torch keeps this array, and only it, as the tensor's memory
            self.live += 1
            self.peak = max(self.peak, self.live)
            self.loads.append((name, array.size))
            weakref.finalize(array, self.forget)
            return torch.from_numpy(array)

        return LazyHandle(handle.shape, handle.dtype, compute)

    def forget(self) -> None:
        self.live -= 1

    def watch(self, component: Component) -> Component:
        return dataclasses.replace(component, weights={n: self.wrap(n, h) for n, h in component.weights.items()})
