"""What writing a network takes, known before it is written: bytes on the disk; and how far it is, in bytes that were read.

Every exporter pulls each weight through its handle, so a handle that tells is all that progress takes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from sprint_export.errors import MachineError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.weight_bytes import count_layer_bytes, count_value_bytes
from sprint_export.weights import Handle, LazyHandle


def count_stored(component: Component, layers: Mapping[str, QuantizedLayer], size: int) -> int:
    """Bytes of a network's weights in a bundle, graphs and headers aside; `size` is a value of the graph's type."""
    rounded = {f"{name}.weight": layer for name, layer in layers.items()}
    return sum(count_layer_bytes(handle.shape, rounded.get(name), size) for name, handle in component.weights.items())


def count_read(component: Component) -> int:
    """Bytes of a network's weights as its checkpoint has them, or as a fold makes them."""
    return sum(_bytes(handle) for handle in component.weights.values())


def check_room(folder: Path, components: Mapping[str, Component], deployment: Deployment) -> None:
    """See that the weights of networks that are still to be written have room, with the engines that are built of them.

    Graphs and reports are not counted: a run that may just fit goes on, and ends at the full disk if it does not.

    Raises:
        MachineError: they have not.
    """
    copies, size = (
        2 if deployment.target.needs_build else 1,
        count_value_bytes(deployment.target.graph_dtype[deployment.precision]),
    )
    needed = copies * sum(count_stored(each, each.layers, size) for each in components.values())
    free = shutil.disk_usage(folder).free
    if components and free < needed:
        what = f"{', '.join(components)} as {deployment.name}{', engines included,' if copies > 1 else ''}"
        raise MachineError(
            f"{what} will take more than {needed / 1e6:,.0f} MB, found {free / 1e6:,.0f} MB free at {folder}; free some space "
            "and run the same command again, or choose an --out on another disk"
        )


def tell_reading(component: Component, tell: Callable[[int], None]) -> Component:
    """The component, of whose weights `tell` is told how many bytes have been read so far, each counted once."""
    read: dict[str, int] = {}

    def watch(name: str, handle: Handle) -> Handle:
        def load() -> torch.Tensor:
            value = handle.load()
            if name not in read:
                read[name] = _bytes(handle)
                tell(sum(read.values()))
            return value

        return LazyHandle(handle.shape, handle.dtype, load)

    return replace(component, weights={name: watch(name, handle) for name, handle in component.weights.items()})


def _bytes(handle: Handle) -> int:
    return math.prod(handle.shape) * handle.dtype.itemsize
