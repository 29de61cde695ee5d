"""The quantized layers that a manifest names, held against the student's own networks before anything is rounded by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from sprint_export.errors import BundleError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.registry import load_member

ROUNDED = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding)


def take_layers(component: Component, layers: Mapping[str, QuantizedLayer]) -> Component:
    """The component with these layers.

    Raises:
        BundleError: one is no layer of the component, or its groups or its precision are none.
    """
    modules = dict(component.module.named_modules())
    for name, layer in layers.items():
        module = modules.get(name)
        if not isinstance(module, ROUNDED):
            raise BundleError(
                f"{component.role}: the bundle quantizes {name!r}, which is no layer of this student; export it again"
            )
        fault = find_fault(module.weight, layer)
        if fault is not None:
            raise BundleError(f"{component.role}.{name}: {fault}; export the student again")
    return dataclasses.replace(component, layers=layers)


def find_fault(weight: torch.Tensor, layer: QuantizedLayer) -> str | None:
    """Why a weight cannot be rounded so, or None."""
    known = load_member("precision", layer.precision.name).PRECISION
    if dataclasses.replace(known, meaning=layer.precision.meaning) != layer.precision:
        return f"the bundle's {layer.precision.name} has other figures than this version's"
    if layer.group and not layer.precision.is_palette and weight.shape[1] % layer.group:
        return f"groups of {layer.group} do not divide its {weight.shape[1]} inputs"
    return None
