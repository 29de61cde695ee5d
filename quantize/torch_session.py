"""A component run by torch: in float to calibrate and compare, or fake-quantized as the reference of its exported graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from sprint_export.quantize.scales import fake_quantize, input_scale, output_scale, round_weight
from sprint_export.schema import FLOAT_DTYPES, Component
from sprint_export.weights import materialize

OUTPUT = ":output"  # behind a layer's name: the range of what it gives


class TorchSession:
    """Implements the session protocol for a component in memory.

    Args:
        component: a specialized component.
        fake: round the inputs, weights and, where told, outputs of its quantized layers, and all other weights to `dtype`, as its
            graph does.
        dtype: what the graph computes in: "fp32", "fp16" or "bf16". Arithmetic is float32 here in any case.
        watch: record the largest magnitude of every Linear and Conv2d input in `amax`, and of a Conv2d's output under the name
            with `:output` behind it.
    """

    def __init__(self, component: Component, fake: bool = False, dtype: str = "fp32", watch: bool = False) -> None:
        self.component = component
        exact = {"times", *(f"{layer}.weight" for layer in component.layers)}  # what the graph does not store in `dtype`
        rounding = {name: getattr(torch, FLOAT_DTYPES[dtype]) for name in component.weights if name not in exact}
        self.module = materialize(component.module, component.weights, rounding=rounding if fake else None)
        self.amax: dict[str, torch.Tensor] = {}
        self.description = f"PyTorch {torch.__version__} CPU, float32" + (", fake-quantized" if fake else "")
        if fake:
            self._fake_quantize()
        if watch:
            self._watch()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name -> outputs by name."""
        arguments = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in self.component.inputs]
        with torch.no_grad():
            output: torch.Tensor = self.module(*arguments)
        return {self.component.outputs[0].name: output.numpy()}

    def _watch(self) -> None:
        for name, module in self.module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.register_forward_pre_hook(lambda _, arguments, name=name: self._record(name, arguments[0]))
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda _, __, result, name=name: self._record(name + OUTPUT, result))

    def _record(self, name: str, value: torch.Tensor) -> None:
        seen = value.abs().amax()
        self.amax[name] = torch.maximum(self.amax.get(name, seen), seen)

    def _fake_quantize(self) -> None:
        for name, layer in self.component.layers.items():
            module = self.module.get_submodule(name)
            weight: torch.Tensor = module.weight  # type: ignore[assignment]  # a Linear's, Conv2d's or Embedding's
            module.weight = torch.nn.Parameter(round_weight(weight, layer), False)
            if layer.input_amax is None:
                continue
            scale, precision = input_scale(layer), layer.precision
            module.register_forward_pre_hook(
                lambda _, arguments, scale=scale, precision=precision: (fake_quantize(arguments[0], scale, precision),)
            )
            if layer.output_amax is not None:
                scale = output_scale(layer)
                module.register_forward_hook(
                    lambda _, __, result, scale=scale, precision=precision: fake_quantize(result, scale, precision)
                )
