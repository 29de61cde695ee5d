"""Run a network whose weights are not in memory: each large one is loaded when its module runs and freed after.

Memory is then the largest tensor plus activations, whatever the size of the network. All prompts of a chunk go through a module
together, so a chunk costs one load of each weight; a chunk is as many prompts as keep the largest activation within a bound.
Small tensors and tables stay: norms and biases are little, and some are read by the module around theirs. On another device than
the CPU large ones stay too once they were read, as many as half of its free memory holds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sprint_export.compute import CPU, HELD_SHARE, Compute
from sprint_export.linear_kernels import use_onednn
from sprint_export.nouns.student import Component
from sprint_export.weights import Handle, materialize

SMALL = 1 << 18  # values (1 MB) up to which a tensor stays in memory
CHUNK_VALUES = 1 << 26  # values (256 MB) that the largest activation of a chunk may have; about three live at once

OUTPUT = ":output"  # behind a layer's name: what it gives
LISTENED = torch.nn.Linear, torch.nn.Conv2d

Listener = Callable[[str, torch.nn.Module, torch.Tensor], None]  # role.layer, layer, its input; or role.layer:output, its output


def ignore(name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
    """Listen to nothing."""


class StreamedNetwork:
    """Implements the session protocol for any number of rows at once.

    Args:
        component: a specialized component.
        listen: is told of every Linear's and Conv2d's input before it is used, and of the output of dense convolutions beyond
            1x1, which some kernels give in 8 bits; `tell` replaces it between runs. Tensors lie where they were computed.
        compute: where it runs.
    """

    def __init__(self, component: Component, listen: Listener = ignore, compute: Compute = CPU) -> None:
        self.component, self.compute, self._listening = component, compute, _Listening(component.role, listen)
        self.description = f"{compute.description}, weights streamed"
        self.module = stream_module(component.module, component.weights, compute)
        listening = self._listening  # hooks hold neither this object nor a module: what is in a circle is not freed at once
        for name, module in self.module.named_modules():
            if isinstance(module, LISTENED):
                module.register_forward_pre_hook(lambda layer, given, name=name: listening.tell(name, layer, given[0]))
            if isinstance(module, torch.nn.Conv2d) and module.groups == 1 and max(module.kernel_size) > 1:
                module.register_forward_hook(lambda layer, _, given, name=name: listening.tell(name + OUTPUT, layer, given))

    def tell(self, listen: Listener) -> None:
        """Who is told from now on."""
        self._listening.listen = listen

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name -> outputs by name, all with the same number of rows."""
        return run_module(self.component, self.module, feeds, self.compute)


@dataclass
class _Listening:
    """Who is told of the layers of one network."""

    role: str
    listen: Listener

    def tell(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
        self.listen(f"{self.role}.{name}", layer, x)


def run_module(
    component: Component, module: torch.nn.Module, feeds: Mapping[str, np.ndarray], compute: Compute = CPU
) -> dict[str, np.ndarray]:
    """Run a module that has a component's inputs and outputs, and lies on a device: arrays by name -> arrays by name."""
    arguments = [compute.place(torch.from_numpy(np.ascontiguousarray(feeds[spec.name]))) for spec in component.inputs]
    with torch.no_grad(), compute.exact():
        result = module(*arguments)
    values = result if isinstance(result, tuple) else (result,)
    return {spec.name: value.contiguous().cpu().numpy() for spec, value in zip(component.outputs, values, strict=True)}


@dataclass
class _Room:
    """Bytes that weights of one network may still take for as long as it is open."""

    size: int

    def take(self, size: int) -> bool:
        """Whether they are taken."""
        if size > self.size:
            return False
        self.size -= size
        return True


def stream_module(
    module: torch.nn.Module, weights: Mapping[str, Handle], compute: Compute, held_bytes: int | None = None
) -> torch.nn.Module:
    """A copy of a meta module that computes in float32 on a device and loads large weights when they are needed.

    Args:
        module: on `meta`.
        weights: by name.
        compute: the device.
        held_bytes: of large weights that stay once they were read; default: what half of the device's free memory holds.
    """
    large = {name for name, _ in module.named_parameters() if name in weights and math.prod(weights[name].shape) > SMALL}
    real = materialize(module, {k: v for k, v in weights.items() if k not in large}, device=compute.device)
    room = _Room(int(HELD_SHARE * compute.count_free()) if held_bytes is None else held_bytes)
    for name, part in real.named_modules():
        prefix = f"{name}." if name else ""
        mine = {leaf: weights[prefix + leaf] for leaf in part._parameters if prefix + leaf in large}
        if mine:
            _stream(part, mine, compute, room)
            if compute.is_cpu:
                use_onednn(part)
    return real


def _stream(module: torch.nn.Module, handles: Mapping[str, Handle], compute: Compute, room: _Room) -> None:
    """Load these parameters before each call of the module and free them after it, but for those that find room to stay."""
    absent = {leaf: module._parameters[leaf] for leaf in handles}

    def load(module: torch.nn.Module, *_: Any) -> None:
        for leaf in tuple(absent):
            value = handles[leaf].load()
            value = value.float() if value.dtype == torch.float64 else value  # which not every device has
            value = compute.place(value).float().contiguous()  # moved as it is stored: 16 bits are half the bytes
            module._parameters[leaf] = torch.nn.Parameter(value, requires_grad=False)
            if room.take(value.nbytes):
                del absent[leaf]

    def free(module: torch.nn.Module, *_: Any) -> None:
        module._parameters.update(absent)

    module.register_forward_pre_hook(load)
    module.register_forward_hook(free, always_call=True)


def count_layers(component: Component) -> int:
    """How many layers are listened to in one run."""
    return sum(isinstance(module, LISTENED) for module in component.module.modules())


def watch_shapes(component: Component, note: Callable[[str, torch.nn.Module, tuple[Any, ...], Any], None]) -> None:
    """Run a network on the `meta` device; `note` is told of every innermost module, by name, its inputs and its output."""
    hooks = [
        module.register_forward_hook(functools.partial(note, name))
        for name, module in component.module.named_modules()
        if not list(module.children())
    ]
    sizes = ([int(size) for size in spec.shape] for spec in component.inputs)
    dtypes = (getattr(torch, spec.dtype) for spec in component.inputs)
    try:
        with torch.no_grad():
            component.module(*(torch.zeros(size, dtype=dtype, device="meta") for size, dtype in zip(sizes, dtypes, strict=True)))
    finally:
        for hook in hooks:
            hook.remove()


def count_rows_at_once(component: Component) -> int:
    """How many prompts a chunk has: found by sending one through the meta module."""
    sizes = [1]
    watch_shapes(component, lambda _, __, ___, output: sizes.append(getattr(output, "numel", int)()))
    return max(1, CHUNK_VALUES // max(sizes))
