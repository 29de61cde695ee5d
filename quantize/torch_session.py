"""A component run by torch: in float, or fake-quantized as the reference of its exported graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.measure.streaming import run_module
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
from sprint_export.weights import materialize


class TorchSession:
    """Implements the session protocol for a component in memory.

    Args:
        component: a specialized component.
        fake: round the inputs, weights and, where told, outputs of its quantized layers, and all other weights to `dtype`, as its
            graph does.
        dtype: what the graph computes in: "fp32", "fp16" or "bf16". Arithmetic is float32 here in any case.
    """

    def __init__(self, component: Component, fake: bool = False, dtype: str = "fp32") -> None:
        self.component = component
        exact = {"times", *(f"{layer}.weight" for layer in component.layers)}  # what the graph does not store in `dtype`
        rounding = {name: getattr(torch, FLOAT_DTYPES[dtype]) for name in component.weights if name not in exact}
        self.module = materialize(component.module, component.weights, rounding=rounding if fake else None)
        self.description = f"PyTorch {torch.__version__} CPU, float32" + (", fake-quantized" if fake else "")
        for name, layer in component.layers.items() if fake else ():
            round_layer(self.module.get_submodule(name), layer)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name -> outputs by name."""
        return run_module(self.component, self.module, feeds)


def open_torch(student: Student, fake: bool = False, dtype: str = "fp32") -> Pipeline:
    """A specialized student's pipeline in torch, with one group of networks in memory at a time; as TorchSession."""
    groups = student.chain.group(student.components)
    return open_student(student, OneAtATime(groups, lambda role: TorchSession(student.components[role], fake, dtype)))


def round_layer(module: torch.nn.Module, layer: QuantizedLayer) -> list[RemovableHandle]:
    """Let a module compute as its quantized layer does: its weight for good, the rest until the handles are removed.

    What goes into the module is rounded; what it gives gets the branch's share, and is rounded where the kernel rounds it.
    """
    weight: torch.Tensor = module.weight  # type: ignore[assignment]  # a Linear's, Conv2d's or Embedding's
    branch, inputs = split_weight(weight.data, layer)[1], load_scheme(layer.scheme).inputs
    module.weight = torch.nn.Parameter(round_weight(weight.data, layer), False)
    axis = 1 if isinstance(module, torch.nn.Conv2d) else -1  # of the channels
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
        product = inputs.pop().movedim(axis, -1) @ down.T @ up.T
        return result + product.movedim(-1, axis)

    return [module.register_forward_pre_hook(lambda _, given: inputs.append(given[0])), module.register_forward_hook(add)]
