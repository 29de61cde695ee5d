"""Faults that a converter may make, planted into a finished bundle that is signed again; layers and channels are left to chance.

scale       a weight's scales (or its palette) times 8          range       an activation's scale times 8
zero        a weight's zero points 3 off                        neighbour   codes and scales of another layer of that shape
outputs     two output channels of the codes change places      inputs      two input channels do
bias        a bias is zero                                      channel     the scale of one channel times 8
time        the flow time or the table of positions times 1.25  prefix      one word of the instruction is another
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.export.bundle import read_bundle
from sprint_export.runtimes.open import list_stored
from sprint_export.runtimes.stored_tensors import StoredTensor
from sprint_export.validate.graph_names import find_module, spell
from tests.planted_faults import change_prefix, sign
from tests.stored_edits import edit_tensor

Array = npt.NDArray[Any]
MERGED = ".merged"  # of several layers: swapping inputs of them all is one fault of each
LEAST = 16  # channels of a weight that is drawn


@dataclass(frozen=True)
class Fault:
    """What was planted; `module` is None where no layer is wrong."""

    kind: str
    network: str
    module: str | None
    tensor: str


@dataclass(frozen=True)
class Stored:
    """A tensor of a network's own graph, and the module that has its name."""

    role: str
    module: str
    tensor: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def is_weight(self) -> bool:
        return self.tensor.is_code and sum(size > 1 for size in self.shape) > 1

    @property
    def is_scale(self) -> bool:
        name = self.tensor.name
        is_named = any(part in name for part in (".scale", "/scale", ".lut"))
        return not self.tensor.is_code and is_named and int(np.prod(self.shape)) > 1


def list_own(folder: Path) -> list[Stored]:
    """Every tensor of the graphs that ship which has a module's name."""
    found, bundle = [], read_bundle(folder, verify=False)
    for record in bundle.components:
        paths = {layer.rpartition(".")[0] if layer.endswith(".weight") else layer for layer in record.layers}
        modules = {spell(path): path for path in paths}
        for tensor in list_stored(bundle, record.role)["graph"]:
            module = find_module(tensor.name, modules)
            if module is not None:
                found.append(Stored(record.role, modules[module], tensor))
    return found


def plant(folder: Path, kind: str, seed: int) -> Fault | None:
    """Plant a fault of a kind; None where the bundle has nothing of that kind."""
    draw = random.Random(f"{kind} {seed}")
    if kind == "prefix":
        return _change_prefix(folder)
    fault = PLANTERS[kind](folder, draw)
    if fault is not None:
        sign(folder)
    return fault


def _choose(folder: Path, draw: random.Random, is_meant: Callable[[Stored], bool]) -> Stored | None:
    candidates = [each for each in list_own(folder) if is_meant(each)]
    return draw.choice(candidates) if candidates else None


def _edit(folder: Path, kind: str, chosen: Stored | None, change: Callable[[Array], Array]) -> Fault | None:
    if chosen is None:
        return None
    assert edit_tensor(folder, chosen.role, chosen.tensor.name, change), chosen.tensor.name
    return Fault(kind, chosen.role, chosen.module, chosen.tensor.name)


def _scale(folder: Path, draw: random.Random) -> Fault | None:
    return _edit(folder, "scale", _choose(folder, draw, lambda each: each.is_scale), lambda values: values * 8)


def _scale_channel(folder: Path, draw: random.Random) -> Fault | None:
    def change(values: Array) -> Array:
        flat = values.astype(np.float32).reshape(-1).copy()
        flat[draw.randrange(flat.size)] *= 8
        return flat.reshape(values.shape)

    return _edit(folder, "channel", _choose(folder, draw, lambda each: each.is_scale), change)


def _shift_zero(folder: Path, draw: random.Random) -> Fault | None:
    def is_zero(each: Stored) -> bool:
        return each.tensor.is_code and ".zero" in each.tensor.name

    return _edit(folder, "zero", _choose(folder, draw, is_zero), lambda values: values.astype(np.float32) + 3)


def _swap(kind: str, place: int) -> Callable[[Path, random.Random], Fault | None]:
    """Two slices of a weight along its first or second axis of several, as the file has them."""

    def change(values: Array, draw: random.Random) -> Array:
        axes = [axis for axis in range(values.ndim) if values.shape[axis] > 1]
        axis = axes[place]
        one, other = draw.sample(range(values.shape[axis]), 2)
        order = list(range(values.shape[axis]))
        order[one], order[other] = other, one
        return np.take(values, order, axis)

    def swap(folder: Path, draw: random.Random) -> Fault | None:
        def is_meant(each: Stored) -> bool:
            return each.is_weight and MERGED not in each.tensor.name and min(s for s in each.shape if s > 1) >= 2

        return _edit(folder, kind, _choose(folder, draw, is_meant), lambda values: change(values, draw))

    return swap


def _take_neighbour(folder: Path, draw: random.Random) -> Fault | None:
    def is_meant(each: Stored) -> bool:
        return each.is_weight and MERGED not in each.tensor.name

    everything = [each for each in list_own(folder) if is_meant(each)]
    pairs = [
        (one, other)
        for one in everything
        for other in everything
        if one.role == other.role and one.shape == other.shape and one.module != other.module
    ]
    if not pairs:
        return None
    one, other = draw.choice(pairs)
    content = np.array(other.tensor.load())
    return _edit(folder, "neighbour", one, lambda values: content.reshape(values.shape))


def _drop_bias(folder: Path, draw: random.Random) -> Fault | None:
    def is_bias(each: Stored) -> bool:
        return "bias" in each.tensor.name and not each.tensor.is_code and MERGED not in each.tensor.name

    return _edit(folder, "bias", _choose(folder, draw, is_bias), lambda values: values * 0)


def _scale_range(folder: Path, draw: random.Random) -> Fault | None:
    """A scale of one number that belongs to no layer's name: an activation's."""
    bundle = read_bundle(folder, verify=False)
    candidates = []
    for record in bundle.components:
        modules = {spell(layer) for layer in record.layers}
        for tensor in list_stored(bundle, record.role)["graph"]:
            is_one = int(np.prod(tensor.shape)) == 1 and not tensor.is_code
            if is_one and tensor.name.endswith((".scale", "_scale_0")) and find_module(tensor.name, modules) is None:
                candidates.append((record.role, tensor))
    if not candidates:
        return None
    role, tensor = draw.choice(candidates)
    assert edit_tensor(folder, role, tensor.name, lambda values: values * 8)
    return Fault("range", role, None, tensor.name)


def _stretch_time(folder: Path, draw: random.Random) -> Fault | None:
    bundle = read_bundle(folder, verify=False)
    candidates = [
        (record.role, tensor)
        for record in bundle.components
        for tensor in list_stored(bundle, record.role)["graph"]
        if tensor.name in ("times", "b_times", "positions", "b_positions", "b_positions_to_fp16", "b_times_to_fp16")
    ]
    if not candidates:
        return None
    role, tensor = draw.choice(candidates)
    assert edit_tensor(folder, role, tensor.name, lambda values: values * values.dtype.type(1.25))
    return Fault("time", role, None, tensor.name)


def _change_prefix(folder: Path) -> Fault:
    change_prefix(folder, "Given", "Gives")
    return Fault("prefix", "prompt", None, "prefix")


PLANTERS: dict[str, Callable[[Path, random.Random], Fault | None]] = {
    "scale": _scale,
    "channel": _scale_channel,
    "range": _scale_range,
    "zero": _shift_zero,
    "outputs": _swap("outputs", 0),
    "inputs": _swap("inputs", 1),
    "neighbour": _take_neighbour,
    "bias": _drop_bias,
    "time": _stretch_time,
}
KINDS = (*PLANTERS, "prefix")
