"""The quantized layers that a manifest names, held against the student's own networks before anything is rounded by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from sprint_export.errors import BundleError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.schemes.scheme import load_scheme

ROUNDED = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding)


def take_layers(component: Component, layers: Mapping[str, QuantizedLayer]) -> Component:
    """The component with these layers.

    Raises:
        BundleError: one is no layer of the component, or or its groups are none.
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
    if layer.group and not load_scheme(layer.scheme).fit_group(weight.shape, layer.group):
        return f"groups of {layer.group} do not divide its weight of shape {list(weight.shape)}"
    return None
