"""A component run by torch: in float, or fake-quantized as the reference of its exported graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from sprint_export.compute import CPU, Compute, Place
from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.measure.streaming import run_module, stream_module
from sprint_export.quantize.scales import (
    fake_quantize,
    input_format,
    input_scale,
    output_scale,
    round_dynamically,
    round_weight,
    split_weight,
)
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.session import OneAtATime, Pipeline, open_student
from sprint_export.weights import Handle, LazyHandle, materialize

HELD_BYTES = 2 << 30  # of rounded weights that stay in the CPU's memory; the others are rounded anew for each call


class TorchSession:
    """Implements the session protocol for a component in memory.

    Args:
        component: a specialized component.
        fake: round the inputs, weights and, where told, outputs of its quantized layers, and all other weights to `dtype`, as its
            graph does.
        dtype: what the graph computes in: "fp32", "fp16" or "bf16". Arithmetic is float32 here in any case.
        compute: where it runs; where its memory is too small the network goes to the CPU, for good, and that is said.
    """

    def __init__(self, component: Component, fake: bool = False, dtype: str = "fp32", compute: Compute = CPU) -> None:
        self.component, self.fake, self.dtype, self.place = component, fake, dtype, Place(compute, component.role)
        self.module = self.place.attempt(self._load)

    @property
    def description(self) -> str:
        """What runs it and where."""
        return self.place.compute.description + (", fake-quantized" if self.fake else "")

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name -> outputs by name."""

        def work() -> dict[str, np.ndarray]:
            if self._loaded_for != self.place.compute:
                self.module = self._load()
            return run_module(self.component, self.module, feeds, self.place.compute)

        return self.place.attempt(work)

    def _load(self) -> torch.nn.Module:
        component, self._loaded_for = self.component, self.place.compute
        if not self.fake:
            return materialize(component.module, component.weights, device=self._loaded_for.device)
        held = HELD_BYTES if self._loaded_for.is_cpu else None
        module = stream_module(component.module, _round_weights(component, self.dtype), self._loaded_for, held)
        for name, layer in component.layers.items():
            is_branched = load_scheme(layer.scheme).rank > 0
            branch = split_weight(component.weights[f"{name}.weight"].load().float(), layer)[1] if is_branched else None
            _round_activations(module.get_submodule(name), layer, branch)
        return module


def _round_weights(component: Component, dtype: str) -> dict[str, Handle]:
    """All weights as the component's graph stores them, rounded on the CPU when they are loaded."""
    stored = getattr(torch, FLOAT_DTYPES[dtype])

    def wrap(name: str, handle: Handle) -> Handle:
        layer = component.layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layer is not None:
            return LazyHandle(handle.shape, torch.float32, lambda: round_weight(handle.load().float(), layer))
        is_exact = name == "times" or not handle.dtype.is_floating_point  # what the graph does not store in `dtype`
        return handle if is_exact else LazyHandle(handle.shape, stored, lambda: handle.load().to(stored))

    return {name: wrap(name, handle) for name, handle in component.weights.items()}


def open_torch(student: Student, fake: bool = False, dtype: str = "fp32", compute: Compute = CPU) -> Pipeline:
    """A specialized student's pipeline in torch, with one group of networks in memory at a time; as TorchSession."""
    groups = student.chain.group(student.components)
    return open_student(student, OneAtATime(groups, lambda role: TorchSession(student.components[role], fake, dtype, compute)))


def round_layer(module: torch.nn.Module, layer: QuantizedLayer) -> list[RemovableHandle]:
    """Let a module compute as its quantized layer does: its weight for good, the rest until the handles are removed.

    The weight is rounded on the CPU, to the last digit as files have it, wherever the module lies.
    """
    weight: torch.Tensor = module.weight  # type: ignore[assignment]  # a Linear's, Conv2d's or Embedding's
    here = weight.data.cpu()
    branch = split_weight(here, layer)[1]
    module.weight = torch.nn.Parameter(round_weight(here, layer).to(weight.device), False)
    return _round_activations(module, layer, branch)


def _round_activations(
    module: torch.nn.Module, layer: QuantizedLayer, branch: tuple[torch.Tensor, torch.Tensor] | None
) -> list[RemovableHandle]:
    """What goes into a module is rounded; what it gives gets the branch's share, and is rounded where the kernel rounds it."""
    inputs, axis = load_scheme(layer.scheme).inputs, 1 if isinstance(module, torch.nn.Conv2d) else -1  # of the channels
    handles = [] if branch is None else _add_branch(module, branch, axis)
    if layer.input_amax is not None:
        read = input_scale(layer)
        handles.append(module.register_forward_pre_hook(lambda _, given: (fake_quantize(given[0], read, input_format(layer)),)))
    elif inputs is not None and inputs.is_dynamic:
        handles.append(module.register_forward_pre_hook(lambda _, given: (round_dynamically(given[0], layer, axis),)))
    if layer.output_amax is not None:
        written = output_scale(layer)
        handles.append(module.register_forward_hook(lambda _, __, result: fake_quantize(result, written, input_format(layer))))
    return handles


def _add_branch(module: torch.nn.Module, branch: tuple[torch.Tensor, torch.Tensor], axis: int) -> list[RemovableHandle]:
    """B (A x) is added to what the module gives; x is what reaches it before anything is rounded."""
    down, up = branch
    inputs: list[torch.Tensor] = []

    def add(_: object, __: object, result: torch.Tensor) -> torch.Tensor:
        product = inputs.pop().movedim(axis, -1) @ down.T.to(result.device) @ up.T.to(result.device)
        return result + product.movedim(-1, axis)

    return [module.register_forward_pre_hook(lambda _, given: inputs.append(given[0])), module.register_forward_hook(add)]
