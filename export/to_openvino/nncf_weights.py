"""Weights that NNCF packs: `nncf.compress_weights` of the layers whose scheme says so, in the groups that the recipe gave them.

A layer is found by the name of its weight's constant; everything else that has weights is in NNCF's ignored scope, and what it
packed once is passed over the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sprint_export.errors import InputError
from sprint_export.libraries import hush, require
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.schemes.scheme import load_scheme

LIBRARY, EXTRA = "nncf", "openvino-int4"
SUFFIXES = (".weight", ".weight.transposed")  # of a constant that holds a layer's weight
WEIGHTED = ("MatMul", "Convolution", "GroupConvolution", "Gather")  # types of operators whose weights NNCF would compress
BETWEEN = ("Convert", "Reshape", "Transpose")  # what may stand between a weight and the operator that multiplies by it


def list_packed(component: Component) -> dict[str, QuantizedLayer]:
    """Layers of a component whose weights NNCF packs."""
    return {name: layer for name, layer in component.layers.items() if load_scheme(layer.scheme).packed_by == LIBRARY}


def pack_weights(model: Any, layers: Mapping[str, QuantizedLayer]) -> Any:
    """An openvino.Model with the weights of these layers in 4 bits; it is changed in place.

    Raises:
        InputError: a layer's weight is not in the model, or NNCF left it as it was. MachineError: nncf is missing.
    """
    nncf: Any = require(LIBRARY, EXTRA)
    weighted = {node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED}
    multipliers = {name: find_multiplier(model, name) for name in layers}
    for group in sorted({layer.group for layer in layers.values()}):
        chosen = {multipliers[name] for name, layer in layers.items() if layer.group == group}
        with hush():
            model = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_SYM,
                group_size=group or -1,
                all_layers=True,
                ignored_scope=nncf.IgnoredScope(names=sorted(weighted - chosen)),
            )
    _check_packed(model, layers)
    return model


def find_multiplier(model: Any, layer: str) -> str:
    """The name of the operator that multiplies by a layer's weight.

    Raises:
        InputError: there is none.
    """
    names = [layer + suffix for suffix in SUFFIXES]
    found = next((node for node in model.get_ordered_ops() if node.get_friendly_name() in names), None)
    while found is not None and found.get_type_name() in ("Constant", *BETWEEN):
        readers = list(found.output(0).get_target_inputs())
        found = readers[0].get_node() if len(readers) == 1 else None
    if found is None or found.get_type_name() not in WEIGHTED:
        raise InputError(f"{layer} has no weight of its own in the graph for NNCF to pack; leave it float in your recipe")
    return str(found.get_friendly_name())


def _check_packed(model: Any, layers: Mapping[str, QuantizedLayer]) -> None:
    kinds = {
        node.get_friendly_name(): node.get_element_type().get_type_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant"
    }
    left = next((name for name in layers if "i4" not in [kinds.get(name + suffix) for suffix in SUFFIXES]), None)
    if left is not None:
        raise InputError(f"NNCF left {left} as it was; leave it float in your recipe")
